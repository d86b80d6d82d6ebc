// The door of the connection folder: the contract, and the networks there are.
export { type ConnAddon, loadConnAddon } from './addon.ts';
export { createNativeNetwork } from './native-network.ts';
export { createSocketNetwork } from './socket-network.ts';
export { SocketConn } from './socket-conn.ts';
export type { Accepting, Conn, Connecting, Network, OpenListener, Wish } from './types.ts';
