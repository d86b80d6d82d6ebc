// The two questions to the proxy: a name the policy allows, and one that no policy lists. Brings back what was said; judges nothing.
import { setTimeout as delay } from 'node:timers/promises';
import type { WiredPorts } from '../wiring.ts';
import type { ProxySignals } from './judge-proxy.ts';
import type { ProbeAnswer } from './probe-child.ts';
import type { Prober } from './prober.ts';

/** How the proxy can be asked. */
export interface Doorway {
  readonly id: string;
  readonly address: string;
  readonly port: number;
  /** A name the policy allows; null when it allows none by its exact name. */
  readonly allowed: { readonly host: string; readonly port: number } | null;
  /** Its ports that need no variable. */
  readonly wired: WiredPorts;
  /** Open tunnels as the admin socket lists them. */
  tunnels(): Promise<unknown>;
}

const limitMs = 10_000;
const pollMs = 15;

/** A name that no policy lists: `.invalid` never exists (RFC 6761). */
export function canaryOf(run: string): string {
  return `gate-${run}.invalid`;
}

/** Ends with the answer. */
export async function askCanary(prober: Prober, doorway: Doorway): Promise<ProxySignals['canary']> {
  const host = canaryOf(doorway.id);
  const answer = await Promise.race([
    ask(prober, doorway, `${host}:443`).answered,
    delay(limitMs, undefined, { ref: false }),
  ]);
  return { host, answer };
}

/** Ends with the answer, or as soon as the proxy's table shows the tunnel beyond its decision. */
export async function askAllowed(prober: Prober, doorway: Doorway): Promise<ProxySignals['allowed']> {
  if (doorway.allowed === null) return null;
  const { host, port } = doorway.allowed;
  const target = `${host}:${port}`;
  const question = ask(prober, doorway, target);
  const deadline = performance.now() + limitMs;
  while (performance.now() < deadline) {
    const answer = await Promise.race([question.answered, delay(pollMs, undefined)]);
    if (answer !== undefined) return { target, answer, isAdmitted: false };
    if (isAdmitted(await doorway.tunnels(), host)) return { target, answer: undefined, isAdmitted: true };
  }
  return { target, answer: undefined, isAdmitted: false };
}

const admittedStates: ReadonlySet<unknown> = new Set(['resolving', 'dialling', 'sniffing', 'open']);

/** True when the admin socket's tunnel list shows `host` past its decision. */
function isAdmitted(body: unknown, host: string): boolean {
  if (typeof body !== 'object' || body === null || !('tunnels' in body) || !Array.isArray(body.tunnels))
    return false;
  return body.tunnels.some(
    (one: unknown) =>
      typeof one === 'object' &&
      one !== null &&
      'host' in one &&
      one.host === host &&
      'state' in one &&
      admittedStates.has(one.state),
  );
}

function ask(prober: Prober, doorway: Doorway, target: string): { readonly answered: Promise<ProbeAnswer> } {
  const { address, port } = doorway;
  return {
    answered: new Promise((resolve) => {
      prober.order({ id: `connect ${target}`, kind: 'connect', address, port, target }, resolve);
    }),
  };
}
