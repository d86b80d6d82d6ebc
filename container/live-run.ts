// A run that is alive, as another process finds it in the state directory; and its gate, tried once more. Starts and ends no run.
import { readFile, readlink, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createNft, digestFence } from '../nft/index.ts';
import { clearGate, type GateRecord } from './gate/index.ts';
import { readNote, recordGate, type BoundaryNote } from './launch-gate.ts';
import { isRunId, namesOf, printable } from './names.ts';
import { isLinkUp } from './network.ts';
import { proxyPort } from './doors.ts';
import { policyFacts } from './policy-facts.ts';
import { adminOf } from './proxy-part.ts';
import { RunRefused } from './refusal.ts';
import { slotAt } from './slot.ts';
import { isAlive, listRuns, netnsOf, startTime, statePaths, type RunRecord } from './state.ts';

/** A run with all that its gate must know. */
export interface LiveRun {
  readonly record: RunRecord;
  readonly directory: string;
  readonly note: BoundaryNote;
}

/** The run called `name`, or the only one there is. Throws RunRefused: usage when it is not settled which, boundary when it is out of reach. */
export async function findLiveRun(state: string, name: string | undefined): Promise<LiveRun> {
  const paths = statePaths(state);
  const { records } = await listRuns(paths);
  const alive = records.filter(({ owner }) => isAlive(owner));
  const record = chooseRun(alive, name);
  if (record.hostNetns !== netnsOf('self'))
    throw new RunRefused(
      'boundary',
      `run \`${record.id}\` is in another network namespace`,
      'ask where it was started: its table and its link are there',
    );
  const directory = join(paths.runs, record.id);
  const note = await readNote(directory);
  if (note !== undefined) return { record, directory, note };
  const help = 'it is starting or has no fence; ask again when its command runs';
  throw new RunRefused('boundary', `run \`${record.id}\` has no boundary to be tried yet`, help);
}

function chooseRun(alive: readonly RunRecord[], name: string | undefined): RunRecord {
  const names = alive.map(({ id }) => id).toSorted();
  const help = names.length === 0 ? 'no run is alive' : `give one with --run: ${names.join(', ')}`;
  if (name !== undefined && !isRunId(name))
    throw new RunRefused('usage', `run name \`${printable(name)}\` is not a name`, help);
  const found = name === undefined ? alive : alive.filter(({ id }) => id === name);
  const [record] = found;
  if (record !== undefined && found.length === 1) return record;
  const problem = name === undefined ? `${found.length} runs are alive` : `run \`${name}\` is not alive`;
  throw new RunRefused('usage', problem, help);
}

/** Tries every probe on it. One at a time for each run: what a killed one has left is cleared first. */
export async function probeRun({ record, directory, note }: LiveRun): Promise<GateRecord> {
  const names = namesOf(record.id);
  if (!(await isLinkUp(names)))
    throw new RunRefused(
      'boundary',
      `run \`${record.id}\` is closed: its link is down`,
      'its fence does not hold; its own stderr and /readyz say what is wrong',
    );
  const unlock = await lock(join(directory, 'prober'));
  const admin = await adminOf(directory);
  try {
    await clearGate(names);
    const slot = slotAt(note.slot);
    const { digest, text } = await policyInForce(directory, admin);
    const nft = createNft();
    return await recordGate({
      place: {
        names,
        slot,
        ports: note.ports,
        datagrams: note.wired.dns,
        services: note.services,
        directory,
      },
      doorway: {
        id: record.id,
        address: slot.proxy,
        port: proxyPort,
        allowed: policyFacts(text).allowed,
        wired: note.wired,
        tunnels: async () => (await admin.get('/tunnels')).body,
      },
      fence: { digest: async () => await digestFence(nft, names.table) },
      admin,
      policy: digest,
      audit: note.audit,
      occasion: 'probe',
    });
  } finally {
    await admin.close();
    await unlock();
  }
}

/** The digest from the proxy itself; the text from the file that it has loaded. */
async function policyInForce(
  directory: string,
  admin: Awaited<ReturnType<typeof adminOf>>,
): Promise<{ readonly digest: string; readonly text: string }> {
  const { body } = await admin.get('/policy');
  const digest = typeof body === 'object' && body !== null && 'digest' in body ? String(body.digest) : '';
  return { digest, text: await readFile(join(directory, 'policy', 'policy.json'), 'utf8') };
}

/** A link that names its holder; that of a dead one is nobody's. */
async function lock(path: string): Promise<() => Promise<void>> {
  const holder = await readlink(path).catch(() => undefined);
  if (holder !== undefined && startTime(Number(holder)) === undefined) await rm(path, { force: true });
  try {
    await symlink(String(process.pid), path);
  } catch (cause) {
    const help = 'wait for it to end';
    throw new RunRefused('boundary', 'the run is being probed by another process', help, { cause });
  }
  return async () => await rm(path, { force: true });
}
