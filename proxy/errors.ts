// The error the proxy throws when the world fails, a closed code and the stage it happened in, and the one for a request that goes bad on its way.
// Not for verdicts ("no" is a value, see Decision) and not for bugs (those are assertions).
import type { FailureCode } from '../policy/index.ts';

/** The step of a tunnel's life (design.md §6) in which something happened; also the label of `sallyport_stage_seconds`. */
export type Stage =
  | 'accept'
  | 'head'
  | 'decide'
  | 'resolve'
  | 'grant'
  | 'audit'
  | 'dial'
  | 'accept_reply'
  | 'sniff'
  | 'relay';

/** The rest of a request that was admitted is malformed: the client's fault, which ends in a denial. The message is for the client to read. */
export class RequestFault extends Error {
  override readonly name = 'RequestFault';
}

/** A failure of the world around us. `cause` is for our log only: it may hold a system error and never reaches a client. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError';
  readonly code: FailureCode;
  readonly stage: Stage;

  constructor(code: FailureCode, stage: Stage, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.stage = stage;
  }
}

/** The destination took the request, and left or broke the protocol before it answered. */
export function noAnswer(cause: unknown): ProxyError {
  return new ProxyError('upstream_reset', 'relay', 'the destination gave no answer', { cause });
}
