// Chooses who accepts, connects and carries: the native parts, or Node's sockets and the JavaScript relay. The two never mix.
import type { RelayChoice } from './config-types.ts';
import { createNativeNetwork, createSocketNetwork, loadConnAddon, type Network } from './conn/index.ts';
import { createJavascriptRelay, createSpliceRelay, loadRelayAddon, type Relay } from './relay/index.ts';

export interface DataPlane {
  readonly network: Network;
  readonly relay: Relay;
}

/** The relay that was asked for is not on this machine. */
export class RelayUnavailable extends Error {
  override readonly name = 'RelayUnavailable';
  readonly help = 'install a C compiler and run `npm ci`, or choose the relay `auto` or `javascript`';
}

/** What was built at install; tests say otherwise. */
const built = { relay: loadRelayAddon, conn: loadConnAddon };

/** @throws RelayUnavailable when `splice` is asked for by name and cannot be had */
export function chooseDataPlane(which: RelayChoice, load: typeof built = built): DataPlane {
  if (which === 'javascript') return javascript();
  const found = native(load);
  if (!('problem' in found)) return found;
  if (which === 'auto') return javascript();
  throw new RelayUnavailable(`the splice relay cannot be used: ${found.problem}`);
}

function javascript(): DataPlane {
  return { network: createSocketNetwork(), relay: createJavascriptRelay() };
}

function native(load: typeof built): DataPlane | { readonly problem: string } {
  const [relay, conn] = [load.relay(), load.conn()];
  if ('problem' in relay) return relay;
  if ('problem' in conn) return conn;
  try {
    const network = createNativeNetwork(conn);
    return { network, relay: createSpliceRelay(relay) };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}
