// A boundary of its own for the tests of the gate's probes: link, sandbox namespace, fence; no proxy and no command. Runs in the network
// namespace that plays the machine, so it is for child processes only.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { judgeGate } from '../../../container/gate/judge.ts';
import { tryFrames } from '../../../container/gate/frames.ts';
import { openListener, visit } from '../../../container/gate/listener.ts';
import { startProber } from '../../../container/gate/prober.ts';
import type { ProbeResult } from '../../../container/gate/result.ts';
import { openRounds, type Sighting } from '../../../container/gate/rounds.ts';
import { namesOf } from '../../../container/names.ts';
import { createLink, createNetns, raiseLink } from '../../../container/network.ts';
import { createResources } from '../../../container/resource.ts';
import { pool, slotAt } from '../../../container/slot.ts';
import { planFence, type FenceSpec, type Transaction } from '../../../nft/index.ts';

/** A boundary whose rules can be changed at will. */
export interface Rig {
  readonly id: string;
  readonly table: string;
  readonly plan: Transaction;
  /** Loads these commands as they are, then one in nft's own language. Throws when the kernel does not take them. */
  load(commands: readonly object[], after?: string): void;
  /** What every probe that is about packets says now; a hasty one ends with the first round that shows a fault. Rejects when the counters of the fence cannot be read. */
  probe(isHasty?: boolean): Promise<readonly ProbeResult[]>;
  release(): Promise<void>;
}

/** What the proxy would say to the name that no policy lists. */
const refusal = (id: string): string =>
  `HTTP/1.1 403 Forbidden\r\nSallyport-Reason: no_rule_matched\r\n\r\n{"run":"${id}"}`;

/** Already wrong: a probe that passed, did not come, or was not counted; a control that did not pass. */
const isSuspect = ({ probe, ahead, past, rose }: Sighting): boolean =>
  ahead < probe.packet.ports.length || (probe.meets === null ? past < ahead : past > 0 || rose < ahead);

/** What the fence of a rig has besides TCP to the proxy. */
export interface RigExtras {
  /** UDP ports of the proxy. */
  readonly datagrams?: readonly number[];
  /** Whether there is an address for services. */
  readonly hasServices?: boolean;
}

/** `id` is a run id that nobody else has. */
export async function makeRig(
  id: string,
  { datagrams = [], hasServices = false }: RigExtras = {},
): Promise<Rig> {
  const resources = createResources();
  const names = namesOf(id);
  const slot = slotAt(1000);
  const ports = [3128, 5432, ...datagrams];
  const services = hasServices ? [{ address: slot.services[0] ?? '', ports: [5432, 6379] }] : [];
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-rig-'));
  await resources.add({ name: 'files', release: () => rmSync(directory, { recursive: true, force: true }) });
  await resources.add(await createNetns(names));
  await resources.add(
    await createLink(
      names,
      slot,
      services.map(({ address }) => address),
    ),
  );
  await resources.add(await raiseLink(names));
  const ends = { interface: names.link, address: slot.sandbox, proxy: slot.proxy };
  const sandbox = {
    name: id,
    ...ends,
    ports,
    frames: true,
    ...(datagrams.length > 0 && { datagrams }),
    ...(hasServices && { services }),
  };
  const spec: FenceSpec = { table: names.table, pool, sandboxes: [sandbox] };
  const prober = await startProber(names);
  await resources.add(prober);
  const listener = await openListener(slot.proxy);
  await resources.add(listener);
  const place = { names, slot, ports, datagrams, services, directory };
  const rounds = await openRounds({ place, prober, hasSix: true, listener: listener.port, patienceMs: 1000 });
  await resources.add(rounds);
  return {
    id,
    table: names.table,
    plan: planFence(spec),
    load(commands, after) {
      const file = join(directory, 'rules');
      writeFileSync(file, JSON.stringify({ nftables: commands }));
      execFileSync('nft', ['-j', '-f', file], { stdio: 'pipe' });
      if (after !== undefined) execFileSync('nft', [after], { stdio: 'pipe' });
    },
    async probe(isHasty = false) {
      const touched = listener.touches();
      await visit(listener.port, slot.proxy);
      const seen = await rounds.run((round) => isHasty && round.some(isSuspect));
      const isFound = isHasty && seen.sightings.some(isSuspect);
      const frames = isFound ? { sights: [], rose: 0, above: [] } : await tryFrames(prober, place);
      return judgeGate({
        rounds: seen,
        listenerTouches: listener.touches() - touched,
        unrouted: [],
        frames,
        run: id,
        canary: { host: '', answer: { id: '', outcome: 'replied', reply: refusal(id) } },
        allowed: null,
        doors: [],
        heard: null,
        left: { routes: [], isIpv6Off: true },
        isQuiet: true,
      });
    },
    release: async () => void (await resources.releaseAll()),
  };
}
