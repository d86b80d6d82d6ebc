// The few bytes of DNS that the launch gate needs: one question out, the facts of one answer in (RFC 1035 §4.1). Knows no sockets.

/** Types that are asked for (RFC 1035 §3.2.2, §3.2.3). */
export const types = { a: 1, ns: 2, txt: 16, any: 255 } as const;

/** Codes of answers. */
export const rcodes = { noerror: 0, nxdomain: 3, refused: 5 } as const;

export type Rcode = keyof typeof rcodes;

const id = 0x5a11;
const headerBytes = 12;

/** A question for `name`, '' for the root. */
export function questionFor(name: string, type: keyof typeof types): Buffer {
  const head = Buffer.alloc(headerBytes);
  head.writeUInt16BE(id, 0);
  head.writeUInt16BE(0x0100, 2);
  head.writeUInt16BE(1, 4);
  return Buffer.concat([head, wireName(name), Buffer.of(0, types[type], 0, 1)]);
}

/** The labels of `name` with their lengths, and the root's. */
export function wireName(name: string): Buffer {
  const labels = name === '' ? [] : name.split('.');
  return Buffer.concat([
    ...labels.map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)])),
    Buffer.of(0),
  ]);
}

/** What an answer to `question` says: the word of its code, and its only record's address if it has one; else what is wrong with it. */
export function readAnswer(question: Buffer, answer: Buffer): string {
  const isAnswer =
    answer.length >= question.length &&
    answer.readUInt16BE(0) === id &&
    (answer.readUInt8(2) & 0x80) !== 0 &&
    answer.subarray(headerBytes, question.length).equals(question.subarray(headerBytes));
  if (!isAnswer) return 'something that is no answer to it';
  const code = answer.readUInt8(3) & 0xf;
  const word = Object.entries(rcodes).find(([, one]) => one === code)?.[0] ?? `code ${code}`;
  const records = answer.readUInt16BE(6);
  if (records === 0) return word;
  const isOne = records === 1 && answer.length === question.length + 16;
  return isOne ? `${word} ${answer.subarray(-4).join('.')}` : `${word} with ${records} records`;
}
