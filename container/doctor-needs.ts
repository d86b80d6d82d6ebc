// What a run needs of the machine, one row or function per need, each judged by trying it. Changes nothing; prints nothing (doctor.ts).
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ToolError } from './exec.ts';
import { findTool } from './preflight.ts';

/** How one need stands. Only `fail` keeps `sallyport run` from starting. */
export interface Finding {
  readonly need: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly detail: string;
  /** The command that mends it; null when there is nothing to mend. */
  readonly fix: string | null;
}

/** The machine as the doctor sees it; a test passes its own. */
export interface Patient {
  /** As in the environment variable. */
  readonly path: string;
  /** As in `process.versions.node`. */
  readonly node: string;
  readonly uid: number;
  /** Where runs keep their state. */
  readonly state: string;
  /** Normally `/proc`. */
  readonly proc: string;
  /** Standard output of a program given by its full path; rejects with ToolError. */
  run(program: string, args: readonly string[]): Promise<string>;
}

/** Every need, in the order in which they are worth mending. */
export async function examine(patient: Patient): Promise<readonly Finding[]> {
  return [
    node(patient),
    root(patient),
    capabilities(patient),
    await nft(patient),
    ...tools.map((row) => tool(patient, row)),
    await namespaces(patient),
    stateDirectory(patient),
    ipv6(patient),
    ...extras.map((row) => extra(patient, row)),
  ];
}

const ok = (need: string, detail: string): Finding => ({ need, level: 'ok', detail, fix: null });
const fail = (need: string, detail: string, fix: string): Finding => ({ need, level: 'fail', detail, fix });
const warn = (need: string, detail: string, fix: string): Finding => ({ need, level: 'warn', detail, fix });

const oldestNode = 24; // the first that runs TypeScript without a flag and with `using`

function node({ node: version }: Patient): Finding {
  const major = Number.parseInt(version, 10);
  if (major >= oldestNode) return ok('node', `v${version}`);
  return fail(
    'node',
    `v${version} is older than v${oldestNode}`,
    'npm ci   # brings one; then run it as npx sallyport',
  );
}

function root({ uid }: Patient): Finding {
  if (uid === 0) return ok('root', 'yes');
  return fail('root', `this is uid ${uid}; only root can build the fence`, 'sudo npx sallyport doctor');
}

/** Bits of linux/capability.h that a run uses: the fence and the links, the namespaces, and giving all of it up. */
const capabilityBits = [
  ['CAP_SETGID', 6],
  ['CAP_SETUID', 7],
  ['CAP_SETPCAP', 8],
  ['CAP_NET_ADMIN', 12],
  ['CAP_SYS_ADMIN', 21],
] as const;

function capabilities({ proc }: Patient): Finding {
  const missing = capabilityBits.filter(([, bit]) => (effective(proc) & (1n << BigInt(bit))) === 0n);
  if (missing.length === 0) return ok('capabilities', capabilityBits.map(([name]) => name).join(' '));
  const names = missing.map(([name]) => name);
  return fail(
    'capabilities',
    `missing ${names.join(' ')}`,
    `sudo npx sallyport doctor   # in a container: ${names.map((name) => `--cap-add ${name.slice('CAP_'.length)}`).join(' ')}`,
  );
}

// proc(5): the effective set, in hex. What cannot be read counts as none.
function effective(proc: string): bigint {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText(join(proc, 'self/status')))?.[1];
  return hex === undefined ? 0n : BigInt(`0x${hex}`);
}

/** Parses and meets the kernel, and is thrown away: `-c` applies nothing. As an argument, since nft cannot read a socket as stdin. */
const trialRules = JSON.stringify({
  nftables: [{ add: { table: { family: 'inet', name: 'sallyport_doctor' } } }],
});

async function nft(patient: Patient): Promise<Finding> {
  const found = tool(patient, ['nft', 'nftables', 'builds the fence']);
  const program = findTool('nft', patient.path);
  if (program === undefined) return found;
  try {
    await patient.run(program, ['-c', '-j', trialRules]);
    return ok('nft', `${program} takes JSON, and the kernel answers`);
  } catch (error) {
    return fail('nft', `${program} cannot ask the kernel: ${words(error)}`, 'sudo npx sallyport doctor');
  }
}

type Row = readonly [name: string, debianPackage: string, purpose: string];

const tools: readonly Row[] = [
  ['ip', 'iproute2', 'makes the link of a sandbox'],
  ['unshare', 'util-linux', 'makes the namespaces'],
  ['nsenter', 'util-linux', 'enters them'],
  ['setpriv', 'util-linux', 'gives up privileges'],
  ['pivot_root', 'util-linux', 'changes the root of a sandbox'],
  ['mount', 'mount', 'makes the system read-only'],
];

/** Where Debian puts what root calls; an ordinary user's PATH often lacks it. */
const adminFolders = '/usr/local/sbin:/usr/sbin:/sbin';

function tool({ path }: Patient, [name, debianPackage, purpose]: Row): Finding {
  const found = findTool(name, path);
  if (found !== undefined) return ok(name, found);
  const elsewhere = findTool(name, adminFolders);
  if (elsewhere === undefined)
    return fail(name, `not on PATH; ${purpose}`, `apt-get install ${debianPackage}`);
  return fail(name, `${elsewhere} is not on PATH; ${purpose}`, `export PATH="$PATH:${dirname(elsewhere)}"`);
}

async function namespaces(patient: Patient): Promise<Finding> {
  const program = findTool('unshare', patient.path);
  const mend =
    'sudo npx sallyport doctor   # in a container: give it CAP_SYS_ADMIN and a seccomp profile that allows unshare(2)';
  if (program === undefined)
    return fail('namespaces', 'cannot be tried without unshare', 'apt-get install util-linux');
  try {
    await patient.run(program, ['--net', '--mount', '--pid', '--ipc', '--uts', '--fork', '--', 'true']);
    return ok('namespaces', 'net, mount, pid, ipc and uts can be made');
  } catch (error) {
    return fail('namespaces', `cannot be made: ${words(error)}`, mend);
  }
}

function stateDirectory({ state }: Patient): Finding {
  const existing = nearest(state);
  try {
    accessSync(existing, constants.W_OK | constants.X_OK);
    if (statSync(existing).isDirectory()) return ok('state', `${state} can be written`);
    return fail('state', `${existing} is not a directory`, `mv ${existing} ${existing}.old`);
  } catch {
    const fix = 'sudo npx sallyport doctor   # or set SALLYPORT_STATE_DIR to a directory that can be written';
    return fail('state', `${existing} cannot be written`, fix);
  }
}

function nearest(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : nearest(dirname(path));
}

// Not a need: a run switches IPv6 off and drops it. Said because people ask.
function ipv6({ proc }: Patient): Finding {
  if (readText(join(proc, 'net/if_inet6')) === '')
    return ok('ipv6', 'not in use here; runs have none either');
  return ok('ipv6', 'in use here; a run gets none, and the fence drops it');
}

/** Programs that only some runs want. */
const extras: readonly (readonly [need: string, ...row: Row])[] = [
  ['nix', 'nix-instantiate', 'nix-bin', 'only policies written in Nix need it, JSON does not'],
  ['tcpdump', 'tcpdump', 'tcpdump', 'only `sallyport run --log-drops` needs it'],
];

function extra({ path }: Patient, [need, name, debianPackage, purpose]: (typeof extras)[number]): Finding {
  const found = findTool(name, path);
  if (found !== undefined) return ok(need, found);
  return warn(need, `not on PATH; ${purpose}`, `apt-get install ${debianPackage}`);
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

// The first line is enough to know what to look for.
function words(error: unknown): string {
  if (error instanceof ToolError) return error.detail.trim().split('\n')[0] || error.code;
  return error instanceof Error ? error.message : 'unknown error';
}
