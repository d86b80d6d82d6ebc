// The two probes that go through the proxy: an allowed name gets as far as its rule says, a denied one is refused with our own reason.
import { setTimeout as delay } from 'node:timers/promises';
import type { ProbeResult } from './gate.ts';
import type { ProbeAnswer } from './probe-child.ts';
import type { Prober } from './prober.ts';

/** How the proxy can be asked, and what it should say. */
export interface Doorway {
  readonly id: string;
  readonly address: string;
  readonly port: number;
  /** A name the policy allows; null when it allows none by its exact name. */
  readonly allowed: { readonly host: string; readonly port: number } | null;
  /** Open tunnels as the admin socket lists them. */
  tunnels(): Promise<unknown>;
}

const limitMs = 10_000;
const pollMs = 15;

/** Failure codes that come after a verdict of allow: the world failed, the proxy said yes. */
const failuresAfterYes: ReadonlySet<string> = new Set([
  'dns_failed',
  'dns_timeout',
  'dial_refused',
  'dial_timeout',
  'upstream_reset',
]);

/** A policy may also deny a pattern that covers the name. */
const denials: ReadonlySet<string> = new Set(['no_rule_matched', 'rule_denied']);

/** A name that no policy lists: `.invalid` never exists (RFC 6761). */
export async function deniedByProxy(prober: Prober, doorway: Doorway): Promise<readonly ProbeResult[]> {
  const host = `gate-${doorway.id}.invalid`;
  const answer = await Promise.race([
    ask(prober, doorway, `${host}:443`).answered,
    delay(limitMs, undefined, { ref: false }),
  ]);
  const reached = { name: 'proxy reachable', ok: answer?.outcome === 'replied', signal: describe(answer) };
  const { status, reason, text } = readReply(answer);
  const isOurs = text.includes(`"run":"${doorway.id}"`);
  const ok = status === 403 && denials.has(reason) && isOurs;
  const signal = ok ? `403 ${reason}, signed by this run` : `${host}: ${describe(answer)}`;
  return [reached, { name: 'denied name refused', ok, signal }];
}

/**
 * Answered by the upstream, or failed after a verdict of allow, or seen in the proxy's table beyond its decision: the gate does not
 * wait for somebody's DNS.
 */
export async function allowedThroughProxy(prober: Prober, doorway: Doorway): Promise<readonly ProbeResult[]> {
  const name = 'allowed name admitted';
  if (doorway.allowed === null)
    return [{ name, ok: true, signal: 'not tried: the policy allows no exact name' }];
  const { host, port } = doorway.allowed;
  const question = ask(prober, doorway, `${host}:${port}`);
  const deadline = performance.now() + limitMs;
  while (performance.now() < deadline) {
    const answer = await Promise.race([question.answered, delay(pollMs, undefined)]);
    if (answer !== undefined) return [judgeAllowed(name, `${host}:${port}`, answer)];
    if (isAdmitted(await doorway.tunnels(), host))
      return [
        { name, ok: true, signal: `${host}:${port} passed the policy; the upstream has not answered yet` },
      ];
  }
  return [{ name, ok: false, signal: `${host}:${port}: no answer in ${limitMs / 1000} s` }];
}

function judgeAllowed(name: string, target: string, answer: ProbeAnswer): ProbeResult {
  const { status, reason } = readReply(answer);
  const ok = status === 200 || failuresAfterYes.has(reason);
  return { name, ok, signal: `${target}: ${describe(answer)}` };
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

function readReply(answer: ProbeAnswer | undefined): { status: number; reason: string; text: string } {
  const text = answer?.outcome === 'replied' ? answer.reply : '';
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1];
  const reason = /^sallyport-reason: *([a-z_]+)\r$/im.exec(text)?.[1];
  return { status: Number(status ?? 0), reason: reason ?? '', text };
}

function describe(answer: ProbeAnswer | undefined): string {
  if (answer === undefined) return 'no answer';
  if (answer.outcome === 'error') return answer.error;
  const { status, reason } = readReply(answer);
  return status === 0 ? 'an answer that is not HTTP' : `${status} ${reason}`.trim();
}
