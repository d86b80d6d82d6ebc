// The JavaScript relay against the contract of all relays.
import { createJavascriptRelay } from '../../../proxy/relay/index.ts';
import { relayConformance } from './conformance.ts';

relayConformance(createJavascriptRelay());
