// Plain HTTP against an origin that answers whatever it likes, and a client that leaves or is cut at any moment: each exchange ends by itself, with
// one close on record, and nothing of it reaches the process. Seeded: test/helpers/fuzz.ts.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { assertHolds } from '../../helpers/fuzz.ts';
import { startOrigin } from '../../helpers/origin.ts';
import { closed, dialProxy } from '../../helpers/proxy-client.ts';
import { startTestProxy } from '../../helpers/proxy.ts';

const statusLines = [
  'HTTP/1.1 100 Continue',
  'HTTP/1.1 101 Switching Protocols',
  'HTTP/1.1 103 Early Hints',
  'HTTP/1.1 199 X',
  'HTTP/1.1 200 OK',
  'HTTP/1.0 200 OK',
  'HTTP/1.1 204 No Content',
  'HTTP/1.1 304 Not Modified',
  'HTTP/1.1 999 X',
  'HTTP/1.1 000 X',
  'HTTP/1.1 200',
  'ICY 200 OK',
];
const fields = [
  'Content-Length: 5',
  'Content-Length: 0',
  'Content-Length: -1',
  'Content-Length: 99999999999999999999',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: gzip, chunked',
  'Connection: upgrade',
  'Connection: close',
  'Upgrade: websocket',
  'X: a\r\n folded',
  'X : y',
  'X: \0',
  ': z',
];
const contents = [
  '',
  'hello',
  '5\r\nhello\r\n0\r\n\r\n',
  '5;ext=1\r\nhello\r\n',
  '0\r\nX-T: 1\r\n\r\n',
  'zzz\r\n',
  '\r\n',
];
const host = 'Host: plain.test\r\n';
const requests = [
  `GET http://plain.test/ HTTP/1.1\r\n${host}\r\n`,
  `HEAD http://plain.test/ HTTP/1.1\r\n${host}\r\n`,
  `GET http://plain.test/ HTTP/1.0\r\n${host}\r\n`,
  `POST http://plain.test/ HTTP/1.1\r\n${host}Content-Length: 4\r\n\r\nabcd`,
  `POST http://plain.test/ HTTP/1.1\r\n${host}Content-Length: 4\r\n\r\nab`,
  `POST http://plain.test/ HTTP/1.1\r\n${host}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n`,
  `GET http://plain.test/ HTTP/1.1\r\n${host}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nmore`,
];

const anything = fc
  .array(
    fc
      .tuple(
        fc.constantFrom(...statusLines),
        fc.array(fc.constantFrom(...fields), { maxLength: 3 }),
        fc.array(fc.constantFrom(...contents), { maxLength: 2 }),
      )
      .map(([status, lines, content]) => `${[status, ...lines].join('\r\n')}\r\n\r\n${content.join('')}`),
    { minLength: 1, maxLength: 3 },
  )
  .map((parts) => parts.join(''));
/** One in four is good, without an end of its own. */
const answer = fc.oneof({ weight: 3, arbitrary: anything }, fc.constant('HTTP/1.1 200 OK\r\n\r\nhello'));

const play = fc.record({
  request: fc.constantFrom(...requests),
  answer,
  /** Where the answer is torn in two. */
  tear: fc.nat(60),
  /** What the origin does when it has said all. */
  farewell: fc.constantFrom('end', 'reset', 'none'),
  /** Who interrupts, and after how many turns of the event loop; 30 stand for the first byte of an answer. */
  interruption: fc.constantFrom('none', 'client resets', 'client ends', 'policy changes'),
  turns: fc.oneof(fc.nat(29), fc.constant(30)),
});

t.test('whatever an origin answers and whoever leaves, one exchange ends and nothing else', async (t) => {
  const script = { answer: '', tear: 0, farewell: 'end' };
  const origin = await startOrigin(
    t,
    (socket) => void socket.once('data', () => void perform(socket, script)),
  );
  const policy = { allow: [{ host: 'plain.test', reason: 'test', protocol: 'http' }] };
  const settings = { idleTimeoutMs: 100, headTimeoutMs: 100 };
  const proxy = await startTestProxy(t, { policy, origin: origin.port, settings });
  const property = fc.asyncProperty(play, async ({ request, interruption, turns, ...said }) => {
    Object.assign(script, said);
    const closes = proxy.closes.length;
    const socket = await dialProxy(proxy.port);
    const gone = closed(socket);
    socket.once('end', () => socket.destroy());
    socket.on('data', () => {}).write(request);
    if (turns === 30) await Promise.race([once(socket, 'data'), gone]);
    else for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate);
    if (interruption === 'client resets') socket.resetAndDestroy();
    if (interruption === 'client ends') socket.end();
    if (interruption === 'policy changes') proxy.deps.table.severWhere(() => true, 'policy_changed');
    await gone;
    if (interruption !== 'client resets') await proxy.closed(closes + 1);
    return proxy.bugs.length === 0;
  });
  await assertHolds(property, 400);
  while (proxy.deps.table.size > 0) await delay(1);
  t.same(proxy.bugs, []);
});

async function perform(
  socket: Socket,
  { answer: text, tear, farewell }: { answer: string; tear: number; farewell: string },
): Promise<void> {
  const bytes = Buffer.from(text, 'latin1');
  socket.write(bytes.subarray(0, tear));
  await new Promise(setImmediate);
  socket.write(bytes.subarray(tear));
  await new Promise(setImmediate);
  if (farewell === 'reset') socket.resetAndDestroy();
  else if (farewell === 'end') socket.end();
  await once(socket, 'close').catch(() => {});
}
