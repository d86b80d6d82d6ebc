// The door of the relay folder: the contract, and the relays there are.
export { loadRelayAddon } from './addon.ts';
export { createJavascriptRelay } from './javascript.ts';
export { createSpliceRelay } from './native.ts';
export type { RelayCause, Relay, RelayEnd, RelayHandle, RelayRequest } from './types.ts';
