// A proxy on real sockets for tests: the real doors, store, relay and limits; the resolver, the way out and the record are the
// test's own. Its dial takes a granted public address to an origin on loopback: nothing leaves this machine.
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { parseAddress, type Address, type Grant, type RunService } from '../../policy/index.ts';
import { admits } from '../../proxy/admission.ts';
import type { ProxySettings } from '../../proxy/config.ts';
import { dial } from '../../proxy/dial.ts';
import { ProxyError, type Stage } from '../../proxy/errors.ts';
import { closeRecord, decisionRecord, nameRecord } from '../../proxy/observe/audit-line.ts';
import type { CloseEvent, DecisionEvent, NameEvent, Observe } from '../../proxy/observe/index.ts';
import { openPolicyStore, type PolicyStore } from '../../proxy/policy-store.ts';
import { limitsOf } from '../../proxy/client-plane.ts';
import { openPorts, type OpenPort, placesOf } from '../../proxy/server.ts';
import type { DnsAnswer } from '../../proxy/steer/answer.ts';
import { createTunnelTable } from '../../proxy/tunnel-table.ts';
import type { Deps } from '../../proxy/types.ts';
import { auditLineProblem } from './audit.ts';
import { dataPlaneUnderTest } from './conn.ts';
import { loopbackGrant } from './tcp-grant.ts';
import { connectHead, dialProxy, readReply, type Reply } from './proxy-client.ts';

export const publicAddress = '93.184.215.14';

export interface TestProxyOptions {
  /** The policy document; `allowing('a.test')` makes one. */
  readonly policy: object;
  /** Port on 127.0.0.1 that every granted address leads to; 0 (the default) refuses. */
  readonly origin?: number;
  /** Answers by host; default is one public address for every name. May reject, or never answer. */
  readonly answers?: (host: string, signal?: AbortSignal) => readonly string[] | Promise<readonly string[]>;
  /** Hosts whose dial never ends by itself. */
  readonly stalls?: readonly string[];
  readonly settings?: Partial<ProxySettings>;
  readonly ownAddresses?: readonly string[];
  readonly deps?: Partial<TestDeps>;
  readonly services?: readonly RunService[];
  /** Bugs are printed unless the test makes them. */
  readonly expectsBugs?: boolean;
  /** Called with each event, before it is kept; may throw. */
  readonly onDecided?: (event: DecisionEvent) => void;
}

export interface TestProxy {
  readonly port: number;
  readonly ports: readonly OpenPort[];
  readonly deps: TestDeps;
  /** Names that were looked up, in order. */
  readonly asked: readonly string[];
  /** Grants that were dialled, in order. */
  readonly dialled: readonly Grant[];
  readonly decisions: readonly DecisionEvent[];
  readonly closes: readonly CloseEvent[];
  /** Denials of the DNS stub, every one. */
  readonly names: readonly NameEvent[];
  /** How the DNS stub ended each query. */
  readonly answers: readonly DnsAnswer[];
  readonly bugs: readonly { readonly error: unknown; readonly stage: Stage }[];
  /** Opens a connection, sends CONNECT for `authority`, reads the answer. */
  connect(
    authority: string,
    options?: { lines?: readonly string[]; after?: Buffer; from?: string },
  ): Promise<Reply>;
  /** Sends `bytes` as they are and reads the answer. */
  send(bytes: string | Buffer): Promise<Reply>;
  /** The close event number `count` (from 1), as soon as it is there. */
  closed(count: number): Promise<CloseEvent>;
  /** Replaces the policy file atomically; reload is up to the test. */
  writePolicy(document: object | string): Promise<void>;
  drain(): void;
}

/** A document that allows these hosts on 443. */
export function allowing(...hosts: readonly string[]): { allow: { host: string; reason: string }[] } {
  return { allow: hosts.map((host) => ({ host, reason: 'test' })) };
}

export async function startTestProxy(t: Test, options: TestProxyOptions): Promise<TestProxy> {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-test-'));
  const path = join(directory, 'policy.json');
  const writePolicy = async (document: object | string): Promise<void> => {
    await writeFile(`${path}.new`, typeof document === 'string' ? document : JSON.stringify(document));
    await rename(`${path}.new`, path);
  };
  await writePolicy(options.policy);
  const facts = { asked: [] as string[], dialled: [] as Grant[], draining: false };
  const record = createRecord(options);
  const settings = { ...testSettings, policy: path, ...options.settings };
  const deps = await createDeps({ settings, options, record: record.observe, facts });
  const ports = await openPorts(placesOf(settings, deps.policyStore.current), deps);
  t.teardown(async () => {
    for (const port of ports) port.close();
    deps.table.severWhere(() => true, 'draining');
    deps.relay.close();
    deps.network.close();
    deps.policyStore.close();
    deps.resolver.close();
    await rm(directory, { recursive: true, force: true });
    // In a teardown only a throw is heard.
    if (record.problems.length > 0) throw new Error(record.problems.slice(0, 5).join('\n'));
  });
  const port = ports[0]?.port ?? 0;
  const send: TestProxy['send'] = async (bytes) => {
    const socket = await dialProxy(port);
    socket.write(bytes);
    return await readReply(socket);
  };
  return {
    port,
    ports,
    deps,
    ...facts,
    ...record.kept,
    send,
    async connect(authority, { lines, after = Buffer.alloc(0), from } = {}) {
      const socket = await dialProxy(port, from);
      socket.write(Buffer.concat([Buffer.from(connectHead(authority, lines)), after]));
      return await readReply(socket);
    },
    closed: record.closed,
    writePolicy,
    drain() {
      facts.draining = true;
    },
  };
}

/** With the whole store, so that a test can reload. */
type TestDeps = Deps & { readonly policyStore: PolicyStore };

interface Wiring {
  readonly settings: ProxySettings;
  readonly options: TestProxyOptions;
  readonly record: Observe;
  readonly facts: { asked: string[]; dialled: Grant[]; draining: boolean };
}

async function createDeps({ settings, options, record, facts }: Wiring): Promise<TestDeps> {
  const { answers = () => [publicAddress], origin = 0, ownAddresses = [], services = [] } = options;
  const table = createTunnelTable();
  const own = ownAddresses.map(address);
  return {
    settings,
    table,
    policyStore: await openPolicyStore({
      path: settings.policy,
      services,
      clock: Date.now,
      sever: async (policy) =>
        await table.severInTurns((tunnel) => !admits(policy, tunnel, own), 'policy_changed'),
      onReload() {},
    }),
    resolver: {
      async resolve(host, signal) {
        facts.asked.push(host);
        return (await Promise.race([answers(host, signal), cancelled(signal)])).map(address);
      },
      close() {},
    },
    ...limitsOf(settings),
    ...dataPlaneUnderTest(),
    observers: record,
    async dial(grant, how) {
      facts.dialled.push(grant);
      if (origin === 0) throw new ProxyError('dial_refused', 'dial', 'no origin in this test');
      if (options.stalls?.includes(grant.host) === true) return await cancelled(how.signal);
      const [first] = grant.addresses;
      const dialled = await dial(loopbackGrant(origin, '127.0.0.1'), how);
      return { ...dialled, address: first ?? dialled.address };
    },
    ownAddresses: () => own,
    clock: Date.now,
    isDraining: () => facts.draining,
    ...options.deps,
  };
}

/** Rejects like the real resolver when the tunnel no longer wants to know. */
async function cancelled(signal?: AbortSignal): Promise<never> {
  await new Promise((resolve) => signal?.addEventListener('abort', resolve));
  throw new ProxyError('dns_failed', 'resolve', 'the look-up was cancelled');
}

export function address(text: string): Address {
  const read = parseAddress(text);
  if (read === undefined) throw new Error(`\`${text}\` is not an address`);
  return read;
}

type Kept = Pick<TestProxy, 'decisions' | 'closes' | 'names' | 'answers' | 'bugs'>;

function createRecord({ onDecided = () => {}, expectsBugs = false }: TestProxyOptions): {
  observe: Observe;
  kept: Kept;
  /** Events that do not fit the published schema. */
  problems: readonly string[];
  closed: TestProxy['closed'];
} {
  const decisions: DecisionEvent[] = [];
  const closes: CloseEvent[] = [];
  const names: NameEvent[] = [];
  const answers: DnsAnswer[] = [];
  const bugs: { error: unknown; stage: Stage }[] = [];
  const waiters: (() => void)[] = [];
  const problems: string[] = [];
  const check = (record: object): void => {
    const problem = auditLineProblem(JSON.stringify({ v: 1, ...record }));
    if (problem !== undefined) problems.push(problem);
  };
  const observe: Observe = {
    async decided(event) {
      onDecided(event);
      check(decisionRecord(event));
      decisions.push(event);
    },
    closed(event) {
      check(closeRecord(event));
      closes.push(event);
      for (const wake of waiters.splice(0)) wake();
    },
    bug(error, stage) {
      if (!expectsBugs) console.error(error);
      bugs.push({ error, stage });
    },
    notAccepted(error) {
      this.bug(error, 'accept');
    },
    flush() {},
    named(event) {
      check(nameRecord(event));
      names.push(event);
    },
    answered: (answer) => void answers.push(answer),
    stage() {},
    crossed() {},
    tunnelOpened() {},
    tunnelClosed() {},
  };
  const closed: TestProxy['closed'] = async (count) => {
    for (;;) {
      const event = closes[count - 1];
      if (event !== undefined) return event;
      await new Promise<void>((wake) => waiters.push(wake));
    }
  };
  return { observe, kept: { decisions, closes, names, answers, bugs }, problems, closed };
}

export const testSettings: Omit<ProxySettings, 'policy'> = {
  listen: ['127.0.0.1:0'],
  allowWildcard: false,
  principals: [],
  services: [],
  hostPorts: [],
  serviceListen: null,
  serviceAt: [],
  transparent: [],
  dnsListen: [],
  resolver: [],
  hosts: null,
  parent: null,
  parentResolvesNames: false,
  audit: '-',
  metrics: null,
  admin: null,
  run: 'test-run',
  user: null,
  readyFd: null,
  hints: true,
  enforcement: 'sidecar',
  relay: 'auto',
  workers: 1,
  headBytes: 16_384,
  headTimeoutMs: 10_000,
  helloBytes: 32_768,
  helloTimeoutMs: 10_000,
  maxTunnels: 4096,
  maxTunnelsPerPrincipal: 4096,
  connectionsPerSecond: 1_000_000,
  connectionBurst: 1_000_000,
  idleTimeoutMs: 60_000,
  dialTimeoutMs: 10_000,
  attemptTimeoutMs: 3000,
  dnsTimeoutMs: 5000,
  drainTimeoutMs: 1000,
};
