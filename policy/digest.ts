// The digest of a policy, taken whole or in pieces. Reads no policy.

import { createHash, type Hash } from 'node:crypto';

/** SHA-256, in hex, of a canonical text and of the services that may dial loopback, which no text says. */
export function digestOf(text: Uint8Array, loopback: readonly string[]): string {
  return endDigest(createHash('sha256').update(text), loopback);
}

/** The same, yielding after every `sliceBytes`. */
export function* digestInSlices(
  { text, loopback }: { readonly text: Uint8Array; readonly loopback: readonly string[] },
  sliceBytes: number,
): Generator<void, string> {
  const hash = createHash('sha256');
  for (let at = 0; at < text.length; at += sliceBytes) {
    hash.update(text.subarray(at, at + sliceBytes));
    yield;
  }
  return endDigest(hash, loopback);
}

function endDigest(hash: Hash, loopback: readonly string[]): string {
  return hash.update(loopback.length === 0 ? '' : JSON.stringify(loopback)).digest('hex');
}
