// `sallyport doctor` against machines that lack one thing each, and against this one. Installs and mends nothing.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { examine, type Finding, type Patient } from '../../container/doctor-needs.ts';
import { doctorCommand } from '../../container/doctor.ts';
import { tool, ToolError } from '../../container/exec.ts';
import { preflight } from '../../container/preflight.ts';
import { needs } from '../helpers/needs.ts';

const tools = 'nft ip unshare nsenter setpriv pivot_root mount nix-instantiate tcpdump'.split(' ');
const allCapabilities = 'CapEff:\t000001ffffffffff\n';

/** A machine that has everything, in a directory of its own; `hide` takes programs away from its PATH. */
function healthy(t: Test, hide: readonly string[] = []): Patient {
  const home = t.testdir({ bin: {}, proc: { self: { status: allCapabilities }, net: {} }, state: {} });
  for (const name of tools.filter((each) => !hide.includes(each))) {
    writeFileSync(join(home, 'bin', name), '#!/bin/sh\n');
    chmodSync(join(home, 'bin', name), 0o755);
  }
  return {
    path: `${join(home, 'absent')}:relative:${join(home, 'bin')}`,
    node: '26.10.0',
    uid: 0,
    state: join(home, 'state/deeper/still'),
    proc: join(home, 'proc'),
    run: async () => '',
  };
}

/** What the command prints for a patient, and its exit status. */
async function doctor(patient: Patient, ...args: string[]): Promise<{ text: string; status: number }> {
  const said: string[] = [];
  const ends: number[] = [];
  const io = {
    patient,
    out: (text: string) => void said.push(text),
    exit: (code: number) => void ends.push(code),
  };
  await doctorCommand({}, io).parseAsync(args, { from: 'user' });
  t.equal(ends.length, 1, 'one exit status');
  return { text: said.join('\n'), status: ends[0] ?? -1 };
}

async function finding(patient: Patient, need: string): Promise<Finding | undefined> {
  return (await examine(patient)).find((each) => each.need === need);
}

const refused = (detail: string) => async (): Promise<string> =>
  await Promise.reject(new ToolError('x', [], '1', detail));

t.test('a machine with everything ends in 0 and no line asks for a fix', async (t) => {
  const { text, status } = await doctor(healthy(t));
  t.equal(status, 0);
  t.match(text, /^ok {4}nft /m);
  t.match(text, /everything that `sallyport run` needs is here$/);
  t.notMatch(text, /fix:|fail|warn/);
});

t.test('nft hidden from PATH is a fail line with the fix, and ends in 1', async (t) => {
  const { text, status } = await doctor(healthy(t, ['nft']));
  t.equal(status, 1);
  t.match(
    text,
    /^fail {2}nft .*not on PATH; builds the fence\n +fix: (apt-get install nftables|export PATH=)/m,
  );
  t.match(text, /1 of 15 needs fail/);
});

t.test('a missing nix is a warning, never a failure', async (t) => {
  const { text, status } = await doctor(healthy(t, ['nix-instantiate']));
  t.equal(status, 0);
  t.match(text, /^warn {2}nix .*\n +fix: apt-get install nix-bin/m);
});

t.test('without tcpdump only --log-drops is out of reach', async (t) => {
  const { text, status } = await doctor(healthy(t, ['tcpdump']));
  t.equal(status, 0);
  t.match(text, /^warn {2}tcpdump .*--log-drops.*\n +fix: apt-get install tcpdump/m);
});

t.test('--json says the same to a program', async (t) => {
  const { text, status } = await doctor(healthy(t, ['mount']), '--json');
  t.equal(status, 1);
  const { ok, needs: all } = JSON.parse(text) as { ok: boolean; needs: Finding[] };
  t.equal(ok, false);
  const failed = all.filter(({ level }) => level !== 'ok');
  t.same(
    failed.map(({ need, level }) => [need, level]),
    [['mount', 'fail']],
  );
  t.same(
    all.filter(({ level, fix }) => (level === 'ok') !== (fix === null)),
    [],
    'a fix for every need that is not ok',
  );
});

t.test('each lack is named and has a fix', async (t) => {
  const bare = 'CapEff:\t0000000000000000\n';
  const cases: readonly {
    name: string;
    need: string;
    change: Partial<Patient>;
    detail: RegExp;
    status?: string;
  }[] = [
    {
      name: 'an old node',
      need: 'node',
      change: { node: '20.20.2' },
      detail: /v20\.20\.2 is older than v24/,
    },
    { name: 'not root', need: 'root', change: { uid: 1000 }, detail: /uid 1000/ },
    {
      name: 'no capabilities',
      need: 'capabilities',
      change: {},
      detail: /missing CAP_SETGID .*CAP_NET_ADMIN CAP_SYS_ADMIN/,
      status: bare,
    },
    {
      name: 'docker without --cap-add',
      need: 'capabilities',
      change: {},
      detail: /^missing CAP_NET_ADMIN CAP_SYS_ADMIN$/,
      status: 'CapEff:\t00000000a80425fb\n',
    },
    {
      name: 'a /proc that cannot be read',
      need: 'capabilities',
      change: { proc: '/nonexistent' },
      detail: /missing CAP_SETGID/,
    },
    {
      name: 'nft that may not',
      need: 'nft',
      change: { run: refused('Error: Operation not permitted\nmore') },
      detail: /cannot ask the kernel: Error: Operation not permitted$/,
    },
    {
      name: 'unshare that may not',
      need: 'namespaces',
      change: { run: refused('unshare failed') },
      detail: /cannot be made: unshare failed/,
    },
    {
      name: 'a state path through a file',
      need: 'state',
      change: { state: '/proc/self/status/runs' },
      detail: /cannot be written|not a directory/,
    },
  ];
  for (const { name, need, change, detail, status } of cases) {
    await t.test(name, async (t) => {
      const patient = { ...healthy(t), ...change };
      if (status !== undefined) writeFileSync(join(patient.proc, 'self/status'), status);
      const found = await finding(patient, need);
      t.match(found, { level: 'fail', detail, fix: /\S/ });
    });
  }
});

t.test('a state directory that is a file is not writable', async (t) => {
  const patient = healthy(t);
  const state = join(t.testdirName, 'state/runs');
  writeFileSync(state, '');
  t.match(await finding({ ...patient, state }, 'state'), {
    level: 'fail',
    detail: /is not a directory|cannot be written/,
  });
});

t.test('IPv6 is told either way and is never a failure', async (t) => {
  const patient = healthy(t);
  t.match(await finding(patient, 'ipv6'), { level: 'ok', detail: /not in use here/ });
  writeFileSync(
    join(patient.proc, 'net/if_inet6'),
    '00000000000000000000000000000001 01 80 10 80       lo\n',
  );
  t.match(await finding(patient, 'ipv6'), { level: 'ok', detail: /in use here; a run gets none/ });
});

t.test('a directory or a text file with the name of a tool is no tool', async (t) => {
  const patient = healthy(t, ['nft', 'mount']);
  const bin = join(t.testdirName, 'bin');
  mkdirSync(join(bin, 'nft'));
  writeFileSync(join(bin, 'mount'), '', { mode: 0o644 });
  t.match(await finding(patient, 'nft'), { level: 'fail' });
  t.match(await finding(patient, 'mount'), { level: 'fail' });
});

t.test('the doctor knows every tool without which a run refuses to start', async (t) => {
  const known = new Set((await examine(healthy(t))).map(({ need }) => need));
  let asked = '';
  try {
    preflight({ uid: 0, path: '' });
  } catch (error) {
    asked = error instanceof Error ? error.message : '';
  }
  const names = /not found on PATH: ([a-z_, ]+)/.exec(asked)?.[1]?.split(', ') ?? [];
  t.ok(names.length > 3, asked);
  t.same(
    names.filter((name) => !known.has(name)),
    [],
  );
});

const real = { skip: needs(t, ['root', 'netns', 'nft', 'ip']) };
t.test(
  'on this machine, as root, each need is found by trying it, and nothing is left behind',
  real,
  async (t) => {
    const patient: Patient = {
      path: process.env['PATH'] ?? '',
      node: process.versions.node,
      uid: process.getuid?.() ?? -1,
      state: join(t.testdir({}), 'state'),
      proc: '/proc',
      run: tool,
    };
    t.same(
      (await examine(patient)).filter(({ level }) => level === 'fail'),
      [],
    );
    t.notMatch(
      execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' }),
      /sallyport_doctor/,
      'checked only',
    );
  },
);

t.test('the real command line: exit status and help', async (t) => {
  const script = `
    const { doctorCommand } = await import(${JSON.stringify(join(import.meta.dirname, '../../container/doctor.ts'))});
    await doctorCommand({ PATH: '/nonexistent' }).parseAsync(process.argv.slice(1), { from: 'user' });`;
  const start = (...args: string[]) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script, '--', ...args], { encoding: 'utf8' });
  t.match(start(), { status: 1, stdout: /^fail {2}nft/m });
  t.notOk(start().stdout.includes('\u001B'), 'plain when it is no terminal');
  t.match(start('--help'), { status: 0, stdout: /Examples:/ });
  t.match(start('--jsn'), { status: 2 });
});
