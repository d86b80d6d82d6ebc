// Thousands of tunnels that are open and silent: what they cost is bounded, and a good client is served beside them.
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import t from 'tap';
import { buildHello } from '../helpers/hello.ts';
import { startEcho } from '../helpers/origin.ts';
import { readBytes, type Reply } from '../helpers/proxy-client.ts';
import { allowing, startTestProxy, type TestProxy } from '../helpers/proxy.ts';

const host = 'a.test:443';
const hello = buildHello({ serverName: 'a.test' });
const batch = 100;

/** Client, proxy twice and origin are one process here: four descriptors a tunnel, and some for the rest. */
function tunnelsThatFit(): number {
  const [, limit = '0'] = /^Max open files\s+(\d+)/mu.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return Math.min(4000, Math.floor((Number(limit) - 200) / 4));
}

/** A tunnel through which the hello has gone and come back. */
async function openTunnel(proxy: TestProxy): Promise<Reply> {
  const reply = await proxy.connect(host, { after: hello });
  if (reply.status === 200) await readBytes(reply.socket, hello.length);
  return reply;
}

async function openMany(proxy: TestProxy, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const size = Math.min(batch, count - sockets.length);
    const replies = await Promise.all(Array.from({ length: size }, async () => await openTunnel(proxy)));
    sockets.push(...replies.filter(({ status }) => status === 200).map(({ socket }) => socket));
    if (replies.some(({ status }) => status !== 200)) break;
  }
  return sockets;
}

t.test(
  'thousands of idle tunnels: a new client is served beside them, and at the limit told limit_tunnels (failure 67)',
  async (t) => {
    const maxTunnels = tunnelsThatFit();
    const origin = await startEcho(t);
    const settings = { maxTunnels, maxTunnelsPerPrincipal: maxTunnels, helloTimeoutMs: 60_000 };
    const proxy = await startTestProxy(t, { policy: allowing('a.test'), origin: origin.port, settings });
    const idle = await openMany(proxy, maxTunnels - 1);
    t.equal(idle.length, maxTunnels - 1, `${idle.length} idle tunnels are open`);
    t.equal(proxy.deps.table.size, idle.length);

    const good = await openTunnel(proxy);
    t.equal(good.status, 200, 'a new client is served');
    t.match(await proxy.connect(host), { status: 429, body: { reason: 'limit_tunnels' } });

    good.socket.destroy();
    while (proxy.deps.limits.open === maxTunnels) await proxy.closed(proxy.closes.length + 1);
    const next = await openTunnel(proxy);
    t.equal(next.status, 200, 'a place that was given back is free');
    const oldest = idle[0];
    oldest?.write('ping');
    t.equal(oldest && String(await readBytes(oldest, 4)), 'ping', 'the idle ones still carry bytes');
    for (const socket of [...idle, next.socket]) socket.destroy();
    while (proxy.deps.table.size > 0) await proxy.closed(proxy.closes.length + 1);
    t.equal(proxy.deps.limits.open, 0, 'every place is given back');
    t.same(proxy.bugs, []);
  },
);
