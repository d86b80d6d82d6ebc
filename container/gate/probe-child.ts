// Sends the launch gate's probes from inside the sandbox's network namespace. A program of its own: one JSON order a line in, one JSON
// answer a line out. It knows no right answers; judge.ts judges.
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

/** One thing to try. */
export type ProbeOrder =
  | {
      readonly id: string;
      readonly kind: 'tcp' | 'udp4' | 'udp6';
      readonly address: string;
      readonly port: number;
      /** What a datagram holds, in hex; default: a word. */
      readonly payload?: string;
    }
  | {
      readonly id: string;
      readonly kind: 'connect';
      readonly address: string;
      readonly port: number;
      readonly target: string;
    };

/** What came of it. `error` is the kernel's code. A packet that is dropped has no answer at all. */
export type ProbeAnswer =
  | { readonly id: string; readonly outcome: 'connected' | 'sent' }
  | { readonly id: string; readonly outcome: 'error'; readonly error: string }
  | { readonly id: string; readonly outcome: 'replied'; readonly reply: string };

const maxReplyBytes = 16_384;
const patienceMs = 300;

type Tell = (answer: ProbeAnswer) => void;

function tryTcp(order: ProbeOrder, tell: Tell): void {
  const socket = connect(order.port, order.address);
  // Before the kernel would send its SYN again (RFC 6298: after a second): one try is one packet.
  const giveUp = setTimeout(() => void socket.destroy(), patienceMs);
  socket.once('close', () => clearTimeout(giveUp));
  socket.once('connect', () => {
    tell({ id: order.id, outcome: 'connected' });
    socket.destroy();
  });
  socket.on('error', (error) => tell({ id: order.id, outcome: 'error', error: codeOf(error) }));
}

function tryUdp(order: Exclude<ProbeOrder, { kind: 'connect' }>, type: 'udp4' | 'udp6', tell: Tell): void {
  const socket = createSocket(type);
  const failed = (error: Error): void => tell({ id: order.id, outcome: 'error', error: codeOf(error) });
  socket.on('error', failed);
  const payload = order.payload === undefined ? 'probe' : Buffer.from(order.payload, 'hex');
  socket.send(payload, order.port, order.address, (error) => {
    if (error === null) tell({ id: order.id, outcome: 'sent' });
    else failed(error);
    socket.close();
  });
}

/** Answers with the response head and body as text: everything up to the end, or a success head alone. */
function tryConnect(order: ProbeOrder & { kind: 'connect' }, tell: Tell): void {
  const socket = connect(order.port, order.address);
  let reply = '';
  const done = (): void => {
    tell({ id: order.id, outcome: 'replied', reply: reply.slice(0, maxReplyBytes) });
    socket.destroy();
  };
  socket.setEncoding('latin1');
  socket.once('connect', () => {
    socket.write(`CONNECT ${order.target} HTTP/1.1\r\nHost: ${order.target}\r\n\r\n`);
  });
  socket.on('data', (text: string) => {
    reply += text;
    if (/^HTTP\/1\.1 200 [^]*\r\n\r\n/.test(reply) || reply.length > maxReplyBytes) done();
  });
  socket.once('end', done);
  socket.on('error', (error) => tell({ id: order.id, outcome: 'error', error: codeOf(error) }));
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

function carryOut(order: ProbeOrder, tell: Tell): void {
  if (order.kind === 'connect') tryConnect(order, tell);
  else if (order.kind === 'tcp') tryTcp(order, tell);
  else tryUdp(order, order.kind, tell);
}

function say(answer: ProbeAnswer): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

/** The orders are the runner's own; a line that is none gets no answer, and the gate does not pass. */
function readOrder(line: string): ProbeOrder | undefined {
  const value: unknown = JSON.parse(line);
  return isOrder(value) ? value : undefined;
}

function isOrder(value: unknown): value is ProbeOrder {
  if (typeof value !== 'object' || value === null) return false;
  const fields = new Map<string, unknown>(Object.entries(value));
  const [id, kind, address, port, target] = ['id', 'kind', 'address', 'port', 'target'].map((key) =>
    fields.get(key),
  );
  if (![id, kind, address].every((one) => typeof one === 'string') || typeof port !== 'number') return false;
  return kind === 'connect'
    ? typeof target === 'string'
    : kind === 'tcp' || kind === 'udp4' || kind === 'udp6';
}

if (import.meta.main) {
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const order = readOrder(line);
    if (order !== undefined) carryOut(order, say);
  });
  // The end of stdin is the end of the gate, or of the runner.
  lines.once('close', () => process.exit(0));
  say({ id: '', outcome: 'sent' });
}
