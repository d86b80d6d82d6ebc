// A process without a descriptor to spare, run by endurance.ts: a relay must carry on, slower if need be. Says what held.
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import { chooseDataPlane } from '../../../proxy/data-plane.ts';
import { dialWith, listenWith, type ConnPair } from '../../helpers/conn.ts';
import { digestOf, openOver, pour } from './joined.ts';

const size = 8 * 1024 * 1024;
const name = process.argv[2] === 'splice' ? 'splice' : 'javascript';

const { network, relay } = chooseDataPlane(name);
const listening = await listenWith(network);
const pair = async (): Promise<ConnPair> => await dialWith(listening);

async function carries(left: ConnPair, right: ConnPair): Promise<boolean> {
  const { done } = openOver(relay, { client: left.near, upstream: right.near }, {});
  return await passes(left.far, right.far, done);
}

async function passes(client: Socket, upstream: Socket, done: Promise<{ cause: string }>): Promise<boolean> {
  const sent = Promise.all([pour(client, size, 1), pour(upstream, size, 2)]);
  const heard = await Promise.all([digestOf(upstream), digestOf(client)]);
  return String(heard) === String(await sent) && (await done).cause === 'both_ended';
}

type Pairs = readonly [ConnPair, ConnPair];

const early: Pairs = [await pair(), await pair()];
const late: Pairs = [await pair(), await pair()];
const open = openOver(relay, { client: early[0].near, upstream: early[1].near }, {});

const highest = Math.max(...readdirSync('/proc/self/fd').map(Number));
spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${highest + 4}`]);
const fillers: number[] = [];
try {
  for (;;) fillers.push(openSync('/dev/null', 'r'));
} catch {
  // Now there is none left.
}

if (await passes(early[0].far, early[1].far, open.done)) console.log('an open tunnel carries on');
for (const socket of [early[0].far, early[1].far]) socket.destroy();
while (fillers.length < highest) {
  try {
    fillers.push(openSync('/dev/null', 'r'));
  } catch {
    break;
  }
}
if (await carries(...late)) console.log('a new one is carried');
for (const filler of fillers) closeSync(filler);
spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${highest + 64}`]);
if (await carries(await pair(), await pair())) console.log('as before');
listening.close();
relay.close();
network.close();
