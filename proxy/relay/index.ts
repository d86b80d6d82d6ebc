// The door of the relay folder: the contract, the relays there are, and the choice between them.
import type { RelayChoice } from '../config-types.ts';
import { loadRelayAddon } from './addon.ts';
import { createJavascriptRelay } from './javascript.ts';
import { createSpliceRelay } from './native.ts';
import type { Relay } from './types.ts';

export { createJavascriptRelay } from './javascript.ts';
export type { Relay, RelayEnd, RelayHandle, RelayRequest } from './types.ts';

/** The relay that was asked for is not on this machine. */
export class RelayUnavailable extends Error {
  override readonly name = 'RelayUnavailable';
  readonly help = 'install a C compiler and run `npm ci`, or choose the relay `auto` or `javascript`';
}

/** @throws RelayUnavailable when `splice` is asked for by name and cannot be had */
export function chooseRelay(which: RelayChoice, load: typeof loadRelayAddon = loadRelayAddon): Relay {
  if (which === 'javascript') return createJavascriptRelay();
  const addon = load();
  if (!('problem' in addon)) return createSpliceRelay(addon);
  if (which === 'auto') return createJavascriptRelay();
  throw new RelayUnavailable(`the splice relay cannot be used: ${addon.problem}`);
}
