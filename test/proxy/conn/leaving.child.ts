// A process or a worker with an engine, run by endurance.ts: `echo`, `held`, `unheld`, `exits`, `settles` or `throws` says how it is to end.
import { parentPort } from 'node:worker_threads';
import { echo, startRig, type Rig, type Told } from './rig.ts';

const mode = process.argv[2];
let count = 0;

/** Asks for one more batch, then for the end; the number of the batch. */
function again({ kind, id }: Told, { addon, engine }: Rig): number {
  if (kind !== 'writable') return 0;
  count += 1;
  console.log(`batch ${count}`);
  if (count === 2) addon.stop(engine);
  else addon.wantWrite(engine, id);
  return count;
}

const handlers: Record<string, (told: Told, rig: Rig) => void> = {
  echo,
  held({ kind }, { addon, engine }) {
    if (kind === 'hup') addon.stop(engine);
  },
  settles(told, rig) {
    const turn = again(told, rig);
    if (turn > 0) void Promise.resolve().then(() => console.log(`settled ${turn}`));
  },
  throws(told, rig) {
    const turn = again(told, rig);
    if (turn > 0) throw new Error(`thrown ${turn}`);
  },
};

process.on('uncaughtException', (error) => console.log(error.message));
const handler = handlers[mode ?? ''];
const rig = startRig(handler === undefined ? {} : { on: handler });
const { addon, engine } = rig;
const { port } = rig.listen();
if (mode === 'echo') {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is for windows
  parentPort?.postMessage(port);
} else if (mode === 'held') {
  console.log(port);
} else {
  const id = addon.connect(engine, '127.0.0.1', port);
  await rig.next('connected', id);
  if (mode === 'throws' || mode === 'settles') addon.wantWrite(engine, id);
  else addon.hold(engine, false);
  if (mode === 'exits') process.exit(7);
}
