// Sends the launch gate's probes from inside the sandbox's network namespace. A program of its own: one JSON order a line in, one JSON
// answer a line out. It knows no right answers; judge.ts judges.
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { connect as connectTls } from 'node:tls';

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
      /** By CONNECT, by a plain request for its Host, or by the server name of a TLS hello. */
      readonly kind: 'connect' | 'http' | 'tls';
      readonly address: string;
      readonly port: number;
      readonly target: string;
    }
  | {
      readonly id: string;
      /** A DNS message in hex, which an answer is waited for. */
      readonly kind: 'dns-udp' | 'dns-tcp';
      readonly address: string;
      readonly port: number;
      readonly message: string;
    };

/** What came of it. `error` is the kernel's code, or that of a TLS alert; a DNS reply is in hex. A packet that is dropped has no answer at all. */
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

type PacketOrder = Extract<ProbeOrder, { kind: 'tcp' | 'udp4' | 'udp6' }>;
type TargetOrder = Extract<ProbeOrder, { target: string }>;
type DnsOrder = Extract<ProbeOrder, { message: string }>;

function tryUdp(order: PacketOrder, type: 'udp4' | 'udp6', tell: Tell): void {
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

const requests = {
  connect: (target: string) => `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`,
  http: (target: string) => `GET / HTTP/1.1\r\nHost: ${target}\r\nConnection: close\r\n\r\n`,
} as const;

/** Answers with the response head and body as text: everything up to the end, or a success head alone. */
function tryRequest(order: TargetOrder, request: string, tell: Tell): void {
  const socket = connect(order.port, order.address);
  let reply = '';
  const done = (): void => {
    tell({ id: order.id, outcome: 'replied', reply: reply.slice(0, maxReplyBytes) });
    socket.destroy();
  };
  socket.setEncoding('latin1');
  socket.once('connect', () => {
    socket.write(request);
  });
  socket.on('data', (text: string) => {
    reply += text;
    if (/^HTTP\/1\.1 200 [^]*\r\n\r\n/.test(reply) || reply.length > maxReplyBytes) done();
  });
  socket.once('end', done);
  socket.on('error', (error) => tell({ id: order.id, outcome: 'error', error: codeOf(error) }));
}

/** A refusal is the error of an alert; nobody's certificate is looked at. */
function tryTls({ id, address: host, port, target: servername }: TargetOrder, tell: Tell): void {
  const socket = connectTls({ host, port, servername, rejectUnauthorized: false });
  socket.once('secureConnect', () => {
    tell({ id, outcome: 'connected' });
    socket.destroy();
  });
  socket.on('error', (error) => tell({ id, outcome: 'error', error: codeOf(error) }));
}

function tryDnsOverUdp({ id, address, port, message }: DnsOrder, tell: Tell): void {
  const socket = createSocket('udp4');
  socket.on('error', (error) => tell({ id, outcome: 'error', error: codeOf(error) }));
  socket.once('message', (reply) => {
    tell({ id, outcome: 'replied', reply: reply.toString('hex') });
    socket.close();
  });
  socket.connect(port, address, () => socket.send(Buffer.from(message, 'hex')));
}

/** RFC 7766: a length goes before each message. */
function tryDnsOverTcp({ id, address, port, message }: DnsOrder, tell: Tell): void {
  const question = Buffer.from(message, 'hex');
  const socket = connect(port, address);
  let reply = Buffer.alloc(0);
  socket.once('connect', () => {
    socket.write(Buffer.concat([Buffer.of(question.length >> 8, question.length & 255), question]));
  });
  socket.on('data', (bytes: Buffer) => {
    reply = Buffer.concat([reply, bytes]);
    if (reply.length < 2 || reply.length < 2 + reply.readUInt16BE(0)) return;
    tell({ id, outcome: 'replied', reply: reply.subarray(2).toString('hex') });
    socket.destroy();
  });
  socket.on('error', (error) => tell({ id, outcome: 'error', error: codeOf(error) }));
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

function carryOut(order: ProbeOrder, tell: Tell): void {
  if ('target' in order) tryTarget(order, tell);
  else if ('message' in order) tryDns(order, tell);
  else if (order.kind === 'tcp') tryTcp(order, tell);
  else tryUdp(order, order.kind, tell);
}

function tryTarget(order: TargetOrder, tell: Tell): void {
  if (order.kind === 'tls') tryTls(order, tell);
  else tryRequest(order, requests[order.kind](order.target), tell);
}

function tryDns(order: DnsOrder, tell: Tell): void {
  if (order.kind === 'dns-udp') tryDnsOverUdp(order, tell);
  else tryDnsOverTcp(order, tell);
}

function say(answer: ProbeAnswer): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

/** What each kind must say besides; null: nothing. */
const wordOf: ReadonlyMap<string, 'target' | 'message' | null> = new Map([
  ...(['tcp', 'udp4', 'udp6'] as const).map((kind) => [kind, null] as const),
  ...(['connect', 'http', 'tls'] as const).map((kind) => [kind, 'target'] as const),
  ...(['dns-udp', 'dns-tcp'] as const).map((kind) => [kind, 'message'] as const),
]);

/** The orders are the runner's own; a line that is none gets no answer, and the gate does not pass. */
function readOrder(line: string): ProbeOrder | undefined {
  const value: unknown = JSON.parse(line);
  return isOrder(value) ? value : undefined;
}

function isOrder(value: unknown): value is ProbeOrder {
  if (typeof value !== 'object' || value === null) return false;
  const fields = new Map<string, unknown>(Object.entries(value));
  const [id, kind, address, port] = ['id', 'kind', 'address', 'port'].map((key) => fields.get(key));
  if (typeof id !== 'string' || typeof address !== 'string' || typeof port !== 'number') return false;
  const wanted = typeof kind === 'string' ? wordOf.get(kind) : undefined;
  return wanted === null || (wanted !== undefined && typeof fields.get(wanted) === 'string');
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
