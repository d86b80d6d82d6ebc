// The story of one run: preflight, sweep, slot, namespace, fence, link, proxy, launch gate, command, and everything back in reverse.
import { backends, type Backend } from './backends/index.ts';
import { buildBoundary, takePlace } from './boundary.ts';
import { closeInherited } from './descriptors.ts';
import { auditSize, type AuditSpan } from './denied.ts';
import { sandboxEnvironment } from './environment.ts';
import type { FenceReport } from '../nft/index.ts';
import { keepDropLog } from './drop-log.ts';
import { keepWatch } from './fence-watch.ts';
import { probeCount, refuseUnlessPassed, type GateRecord } from './gate/index.ts';
import { leaveNote, recordGate } from './launch-gate.ts';
import { aliasesOf, planDoors, proxyPort } from './doors.ts';
import type { Caller, RunOptions } from './options.ts';
import { oldNodeNote } from './node-note.ts';
import { policyFacts } from './policy-facts.ts';
import { policyListInside, tellPolicy } from './policy-list.ts';
import { preflight } from './preflight.ts';
import { proxyFiles, type ProxyFiles } from './proxy-files.ts';
import { compilePolicy, type ProxyPart } from './proxy-part.ts';
import { sweep } from './reclaim.ts';
import { RunRefused } from './refusal.ts';
import type { Voice } from './report.ts';
import type { Resources } from './resource.ts';
import { prepareState, type StatePaths } from './state.ts';
import { supervise, type Outcome } from './supervise.ts';
import { wiredPorts } from './wiring.ts';
import { checkWorkspace, isWritableBy } from './workspace.ts';

/** uid and gid of the command. */
const agentId = 1000;

/** What a run is given besides its options. */
export interface RunContext {
  readonly caller: Caller;
  readonly resources: Resources;
  readonly voice: Voice;
  /** Aborted when the runner is told to stop; its reason is the exit status. */
  readonly stop: AbortSignal;
  /** Calls back when the policy is to be read again (SIGHUP). */
  onReload(reload: () => Promise<void>): void;
}

/** What is known of a run once it has ended. */
export interface RunResult extends Outcome {
  readonly policy: string;
  /** Null without a fence. */
  readonly gate: GateRecord | null;
  readonly drops: Readonly<Record<string, number>>;
  readonly startedAt: number;
  readonly audit: AuditSpan;
}

/**
 * Runs the command behind the fence. Everything taken is in `context.resources`; the caller releases it, whatever happens.
 * Throws RunRefused when the command was not started.
 */
export async function runFenced(options: RunOptions, context: RunContext): Promise<RunResult> {
  closeInherited();
  preflight({
    uid: context.caller.uid,
    path: context.caller.environment['PATH'] ?? '',
    isDropLogged: options.isDropLogged,
  });
  const backend = await chooseBackend();
  const workspace = options.workspace === null ? null : await checkWorkspace(options.workspace);
  if (workspace !== null) await warnWorkspace(workspace.path, context.voice);
  const policy = await compilePolicy(options.policy);
  const facts = policyFacts(policy.text);
  const services = [...facts.services, ...options.services];
  const named = { services, hostPorts: options.hostPorts };
  const aliases = aliasesOf(named);
  const wired = wiredPorts(options.wiring, facts.ports, proxyPort);

  const paths = await prepareState(options.state);
  await sweepFirst(paths, context.voice);
  const { names, slot, directory } = await takePlace(paths, options, context);
  const doors = planDoors(slot, named, wired);
  const { ports, services: addresses } = doors;
  const environment = sandboxEnvironment({
    id: options.id,
    proxy: { address: slot.proxy, port: proxyPort },
    direct: aliases,
    wanted: options.wantedEnvironment,
    wiring: options.wiring,
    caller: context.caller.environment,
  });
  const told = await tellPolicy(directory, policy, options);
  const auditStart = await auditSize(options.audit);
  const files = await proxyFiles(directory, options, context.caller.uid);
  const { fence, proxy } = await buildBoundary(
    { names, slot, doors, wired, directory, files, options, policy },
    context,
  );
  const doorway = {
    id: options.id,
    address: slot.proxy,
    port: proxyPort,
    allowed: facts.allowed,
    wired,
    tunnels: async () => (await proxy.admin.get('/tunnels')).body,
  };
  const { audit: auditFile } = options;
  await leaveNote(directory, { slot: slot.number, ports, services: addresses, wired, audit: auditFile });
  const place = { names, slot, ports, datagrams: wired.dns, services: addresses, directory };
  const task = { place, doorway, fence, admin: proxy.admin, policy: policy.digest, audit: auditFile };
  const [gate, note] = await Promise.all([
    recordGate({ ...task, occasion: 'launch' }),
    options.wiring === 'env' ? oldNodeNote() : null,
  ]);
  refuseUnlessPassed(gate.probes);
  const audit = { start: auditStart, command: await auditSize(options.audit) };
  const watch = await keepWatch({ names, fence, proxy }, context);
  await watch.zero(); // packets of the launch gate are not the command's
  refuseBroken(await watch.look());
  if (options.isDropLogged) await keepDropLog({ names, slot, proxy }, context);
  context.onReload(async () => await reload({ options, directory, files, proxy, voice: context.voice }));

  context.stop.throwIfAborted();
  const command = await backend.start({
    id: options.id,
    netnsPath: names.netnsPath,
    directory,
    command: options.command,
    environment:
      told === null ? environment : new Map([...environment, ['SALLYPORT_POLICY', policyListInside]]),
    hosts: doors.hosts,
    resolver: wired.dns.length > 0 ? slot.proxy : null,
    told,
    workspace,
    uid: agentId,
    gid: agentId,
  });
  await context.resources.add({ name: 'command', release: async () => await command.terminate(0) });
  await command.begin();
  context.voice.tell({
    event: 'started',
    message: `run ${options.id} is behind the fence (${probeCount(gate.probes)}); audit: ${options.audit}${note === null ? '' : `; ${note}`}`,
  });
  const startedAt = performance.now();
  const outcome = await supervise(
    command,
    { timeoutMs: options.timeoutMs, stop: context.stop },
    context.voice,
  );
  const { drops } = await watch.look();
  return { ...outcome, policy: policy.digest, gate, drops, startedAt, audit };
}

/** Also when the table itself is whole: rules of others may lead around it. */
function refuseBroken({ ok, problems }: FenceReport): void {
  if (ok) return;
  const help = 'take the rules away that it names, or run on another machine';
  throw new RunRefused('boundary', `the fence does not hold: ${problems.join('; ')}`, help);
}

async function chooseBackend(): Promise<Backend> {
  const [backend] = backends;
  const availability = await backend?.available();
  if (backend !== undefined && availability?.ok === true) return backend;
  const { problem, help } =
    availability?.ok === false
      ? availability
      : { problem: 'there is no backend', help: 'install util-linux' };
  throw new RunRefused('boundary', `no sandbox can be made: ${problem}`, help);
}

async function warnWorkspace(workspace: string, voice: Voice): Promise<void> {
  if (await isWritableBy(workspace, agentId)) return;
  voice.tell({
    event: 'workspace',
    message: `the command is uid ${agentId} and cannot write in \`${workspace}\`; chown it to ${agentId} if it should`,
  });
}

async function sweepFirst(paths: StatePaths, voice: Voice): Promise<void> {
  const { reclaimed, failures } = await sweep(paths);
  if (reclaimed.length > 0)
    voice.tell({ event: 'swept', message: `swept what dead runs left: ${reclaimed.join(', ')}` });
  for (const { id, name, error } of failures) {
    voice.tell({
      event: 'cleanup_failed',
      message: `run ${id}: ${name} could not be swept: ${error instanceof Error ? error.message : String(error)}`,
    });
  }
}

interface ReloadSpec {
  readonly options: RunOptions;
  readonly directory: string;
  readonly files: ProxyFiles;
  readonly proxy: ProxyPart;
  readonly voice: Voice;
}

async function reload({ options, directory, files, proxy, voice }: ReloadSpec): Promise<void> {
  try {
    const policy = await compilePolicy(options.policy);
    await files.writePolicy(policy.text);
    const { status, body } = await proxy.admin.post('/reload');
    if (status !== 200) throw new Error(`the proxy answered ${status} and keeps the last good one`);
    await tellPolicy(directory, policy, options);
    const message = `policy ${policy.digest.slice(0, 12)} is in force${unservedIn(body)}`;
    voice.tell({ event: 'policy_reloaded', message });
  } catch (error) {
    voice.tell({
      event: 'policy_not_reloaded',
      message: `the policy stays as it was: ${error instanceof Error ? error.message : String(error)}`,
    });
  }
}

/** Ports are those of the start: the fence has no others. */
function unservedIn(body: unknown): string {
  const isThere = typeof body === 'object' && body !== null && 'unserved' in body;
  const list: readonly unknown[] = isThere && Array.isArray(body.unserved) ? body.unserved : [];
  return list.length === 0 ? '' : `; not served before the next start: ${list.join(', ')}`;
}
