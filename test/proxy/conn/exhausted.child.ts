// A process without a descriptor to spare, run by endurance.ts: clients are to be turned away, not kept waiting. Says what held.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { readAll, wasReset } from '../../helpers/tcp.ts';
import { addonUnderTest, startRig } from './rig.ts';

const addon = addonUnderTest();
const fd = addon.bind('127.0.0.1', 0, false, 511);
const port = addon.portOf(fd);
const rig = startRig();
const call = async (): Promise<Socket> => {
  const client = connect(port, '127.0.0.1');
  client.on('error', () => {});
  await once(client, 'connect');
  return client;
};

// They wait in the queue of a listener that no engine has yet.
const clients: Socket[] = [];
while (clients.length < 10) clients.push(await call());
const highest = Math.max(...readdirSync('/proc/self/fd').map(Number));
spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${highest + 4}`]);
const fillers: number[] = [];
try {
  for (;;) fillers.push(openSync('/dev/null', 'r'));
} catch {
  // Now there is none left.
}
rig.addon.listen(rig.engine, fd, 100);
const resets = await Promise.all(clients.map(wasReset));
console.log(`turned away: ${resets.filter(Boolean).length} of ${clients.length}`);
const failures = rig.told.filter(({ kind }) => kind === 'acceptFailed').length;
if (failures > 0 && failures < clients.length) console.log('fewer events than clients');
for (const filler of fillers) closeSync(filler);
const client = await call();
const { id } = await rig.next('accept');
rig.addon.write(rig.engine, id, Buffer.from('hello'));
rig.addon.close(rig.engine, id, false);
if (String(await readAll(client)) === 'hello') console.log('served again');
rig.addon.stop(rig.engine);
