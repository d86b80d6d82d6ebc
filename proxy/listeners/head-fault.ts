// Why a request head that did not come whole asks for nothing, and with which HTTP status that is told. Opens nothing.
import type { Target } from '../../policy/index.ts';
import { malformed } from './authority.ts';
import type { HttpFault } from './http-refusal.ts';
import type { ReadHead } from './read-head.ts';

/** A target, and what the answer must carry besides the refusal when the head itself was at fault. */
export interface Asked {
  readonly target: Target;
  readonly answer?: HttpFault;
}

const faults = {
  timeout: { status: 408, statusText: 'Request Timeout' },
  tooLarge: { status: 431, statusText: 'Request Header Fields Too Large' },
} as const satisfies Record<string, HttpFault>;

/** `help` says what to send instead. */
export function headFault(read: Exclude<ReadHead, { kind: 'gone' | 'complete' }>, help: string): Asked {
  switch (read.kind) {
    case 'malformed':
      return { target: malformed(read.problem, help) };
    case 'timeout':
      return { target: malformed('no complete request head came in time', help), answer: faults.timeout };
    case 'too_large':
      return {
        target: malformed('the request head is too large', 'send fewer header fields'),
        answer: faults.tooLarge,
      };
    case 'stopped':
      return { target: malformed('the proxy stopped reading', help) };
    default:
      return read satisfies never;
  }
}
