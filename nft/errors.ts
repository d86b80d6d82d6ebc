// The one error of this folder. Not for a fence that differs from its plan: that is an answer (verify.ts).

/**
 * - `nft_missing`: there is no nft program to run
 * - `nft_not_permitted`: the kernel refused the right to change rules
 * - `nft_failed`: nft or the kernel refused the transaction, or took too long
 * - `busy`: another apply or removal of the same table is under way, or awaits its confirmation
 * - `lock_out`: the fence would cut this machine's own connections; nothing was changed
 * - `rolled_back`: the fence was in place for a while and is not any more: the rules are as before it
 * - `spec_invalid`: the spec cannot be enforced as written; nothing was sent to the kernel
 */
export type FenceErrorCode =
  | 'nft_missing'
  | 'nft_not_permitted'
  | 'nft_failed'
  | 'busy'
  | 'lock_out'
  | 'rolled_back'
  | 'spec_invalid';

/** `message` says what is wrong, `help` what to do about it. */
export class FenceError extends Error {
  override readonly name = 'FenceError';
  readonly code: FenceErrorCode;
  readonly help: string;

  constructor(code: FenceErrorCode, message: string, help: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.help = help;
  }
}
