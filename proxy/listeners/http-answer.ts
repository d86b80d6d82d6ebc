// The head of an answer as the client gets it, built anew from what upstream said, and how its content is framed. Pure: sends nothing.
import type { Dispatcher } from 'undici';
import { endToEnd } from './http-fields.ts';
import { statedLength } from './http-framing.ts';
import type { Field } from './request-head.ts';

/** `rechunked`: in chunks of ours, and upstream's end of the connection is the end. `close`: the same, and so it ends for the client. */
export type AnswerFraming = 'none' | 'length' | 'chunked' | 'rechunked' | 'close';

export interface Answer {
  readonly status: number;
  readonly statusText: string;
  readonly fields: readonly Field[];
}

/** How the content of `answer` to a request is sent on; undefined when upstream framed it in a way that nobody here can take apart. */
export function answerFraming(
  { status, fields }: Answer,
  request: { readonly method: string; readonly minor: 0 | 1 },
): AnswerFraming | undefined {
  const stated = statedLength(fields);
  if (request.method === 'HEAD' || status === 204 || status === 304) return 'none';
  if (stated === 'unknown') return undefined;
  if (typeof stated === 'number') return 'length';
  if (request.minor === 0) return 'close';
  return stated === 'chunked' ? 'chunked' : 'rechunked';
}

/** Whether the connection's end may be all that says that the content is whole. */
export function endsWithConnection(framing: AnswerFraming): boolean {
  return framing === 'rechunked' || framing === 'close';
}

function isChunked(framing: AnswerFraming): boolean {
  return framing === 'chunked' || framing === 'rechunked';
}

/** Head bytes with their empty line. `extra` are lines of ours. */
export function answerHead(
  { status, statusText, fields }: Answer,
  framing: AnswerFraming,
  extra: readonly string[],
): Buffer {
  const length = statedLength(fields);
  // For HEAD and 304 a length says what a GET would have brought.
  const keepsLength = framing === 'length' || (framing === 'none' && status !== 204 && status >= 200);
  const lines = [
    `HTTP/1.1 ${status} ${statusText.replaceAll(/[^\t\u0020-\u007e]/gu, '')}`,
    ...endToEnd(fields).map(([name, value]) => `${name}: ${value}`),
    ...(keepsLength && typeof length === 'number' ? [`Content-Length: ${length}`] : []),
    ...(isChunked(framing) ? ['Transfer-Encoding: chunked'] : []),
    ...extra,
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

/** One piece of content as it goes to the client. */
export function framed(piece: Buffer, framing: AnswerFraming): Buffer {
  if (!isChunked(framing)) return piece;
  return Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, crlf]);
}

const crlf = Buffer.from('\r\n');

/** What ends the content. */
export function lastPiece(framing: AnswerFraming): string {
  return isChunked(framing) ? '0\r\n\r\n' : '';
}

/** Names and values in turn, as undici has them, bytes read as latin1; names in lower case. */
export function fieldsOf(raw: Dispatcher.DispatchController['rawHeaders']): Field[] {
  if (!Array.isArray(raw)) return [];
  const texts = raw.map((part) => (typeof part === 'string' ? part : part.toString('latin1')));
  return texts.flatMap((name, i) => (i % 2 === 0 ? [[name.toLowerCase(), texts[i + 1] ?? ''] as const] : []));
}
