// The door of the relay folder: the contract and the relays there are.
export { createJavascriptRelay } from './javascript.ts';
export type { Relay, RelayEnd, RelayHandle, RelayRequest } from './types.ts';
