// Tells from a server's first bytes whether it asks the client for a second ClientHello (HelloRetryRequest, RFC 8446 §4.1.4). Pure: no
// sockets, no clock. Judges nothing else of what a server says.

/** `settled`: whatever follows is encrypted or an error, so no second hello in the clear is due. */
export type ServerAnswer = 'need_more' | 'retry' | 'settled';

/** SHA-256 of "HelloRetryRequest": the random of a ServerHello that is none (RFC 8446 §4.1.3). */
const retryRandom = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');
const [alertRecord, handshakeRecord] = [21, 22];
const serverHello = 2;
const recordHeaderBytes = 5;
/** Type, length and version come before the random. */
const randomAt = 6;
const wanted = randomAt + retryRandom.length;
/** Longest that an answer may stay unread. Honest servers are done after 43 bytes. */
const maxBytes = 4096;

/** Judges all bytes that the server has sent so far. Warning alerts before the answer are passed over; records may split it anywhere. */
export function readServerAnswer(bytes: Buffer): ServerAnswer {
  const start: Buffer[] = [];
  let held = 0;
  for (let at = 0; held < wanted;) {
    if (bytes.length < at + recordHeaderBytes) return short(bytes);
    const type = bytes[at];
    const fragment = bytes.subarray(
      at + recordHeaderBytes,
      at + recordHeaderBytes + bytes.readUInt16BE(at + 3),
    );
    const isWarning = type === alertRecord && fragment[0] === 1;
    if (type === alertRecord && fragment.length === 0) return short(bytes);
    if (type !== handshakeRecord && !isWarning) return 'settled';
    if (type === handshakeRecord) held += start[start.push(fragment) - 1]?.length ?? 0;
    at += recordHeaderBytes + bytes.readUInt16BE(at + 3);
  }
  const message = Buffer.concat(start);
  const isRetry = message[0] === serverHello && retryRandom.equals(message.subarray(randomAt, wanted));
  return isRetry ? 'retry' : 'settled';
}

function short(bytes: Buffer): ServerAnswer {
  return bytes.length < maxBytes ? 'need_more' : 'settled';
}
