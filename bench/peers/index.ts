// Every peer, in the order of the tables. A literal list, so that a reader sees all that is compared.
import { direct } from './direct.ts';
import { haproxy } from './haproxy.ts';
import { nodePipes } from './node-pipes.ts';
import { sallyports } from './sallyport.ts';
import { squid } from './squid.ts';
import { tinyproxy } from './tinyproxy.ts';
import type { Peer } from './types.ts';

export const peers: readonly Peer[] = [...sallyports, direct, nodePipes, squid, haproxy, tinyproxy];
