// Connects to one of the judged addresses of a grant, trying them as RFC 8305 says. Takes no host name: what was checked
// is what is dialled.
import { isGrant, type Address, type Grant } from '../policy/index.ts';
import type { Conn, Network } from './conn/index.ts';
import { ProxyError } from './errors.ts';

/** The winner. `ms` is the time from the first attempt. */
export interface Dialled {
  readonly conn: Conn;
  readonly address: Address;
  readonly ms: number;
}

export interface DialOptions {
  /** For one address. */
  readonly attemptTimeoutMs: number;
  /** For all of them. */
  readonly totalTimeoutMs: number;
  /** Who connects. */
  readonly network: Pick<Network, 'connect'>;
  /** Ends the race with `dial_refused`; the caller knows that it asked. */
  readonly signal?: AbortSignal;
}

// RFC 8305 §5: Connection Attempt Delay.
const attemptDelayMs = 250;

/**
 * Races the grant's addresses: the next attempt starts 250 ms after the last one or as soon as one fails. The losers are
 * destroyed before the promise settles.
 * @throws ProxyError dial_timeout when a time limit was met, else dial_refused; stage `dial`
 */
export async function dial(grant: Grant, options: DialOptions): Promise<Dialled> {
  if (!isGrant(grant)) throw new Error('bug: a dial without a grant');
  const race = createRace(grant, options);
  const onAbort = (): void => race.lose('dial_refused', 'the dial was cancelled');
  const clock = setTimeout(() => race.lose('dial_timeout', 'no connection in time'), options.totalTimeoutMs);
  options.signal?.addEventListener('abort', onAbort);
  try {
    if (options.signal?.aborted === true) onAbort();
    else race.next();
    return await race.winner;
  } finally {
    clearTimeout(clock);
    options.signal?.removeEventListener('abort', onAbort);
  }
}

/** Addresses in the order of RFC 8305 §4: families in turn, IPv6 first, order within a family kept. */
export function interleave(addresses: readonly Address[]): readonly Address[] {
  const six = addresses.filter((address) => address.family === 6);
  const four = addresses.filter((address) => address.family === 4);
  const rounds = Array.from({ length: Math.max(six.length, four.length) }, (_, i) => [six[i], four[i]]);
  return rounds.flat().filter((address) => address !== undefined);
}

interface Race {
  readonly winner: Promise<Dialled>;
  next(): void;
  lose(code: 'dial_refused' | 'dial_timeout', why: string): void;
}

function createRace(grant: Grant, { attemptTimeoutMs, network }: DialOptions): Race {
  const { promise: winner, resolve, reject } = Promise.withResolvers<Dialled>();
  const startedAt = performance.now();
  const waiting = [...interleave(grant.addresses)];
  const running = new Set<Attempt>();
  const failures: Failure[] = [];
  let delay: NodeJS.Timeout | undefined;

  const close = (): void => {
    clearTimeout(delay);
    waiting.length = 0;
    const losers = [...running];
    running.clear();
    for (const loser of losers) loser.stop();
  };
  const lose: Race['lose'] = (code, why) => {
    close();
    reject(dialError(grant, code, why));
  };
  const win = (attempt: Attempt, conn: Conn): void => {
    running.delete(attempt);
    close();
    resolve({ conn, address: attempt.address, ms: performance.now() - startedAt });
  };
  const next = (): void => {
    clearTimeout(delay);
    const address = waiting.shift();
    if (address !== undefined)
      running.add(startAttempt(address, grant.port, attemptTimeoutMs, { network, win, fail }));
    else if (running.size === 0) lose(...verdictOn(failures));
    if (waiting.length > 0) delay = setTimeout(next, attemptDelayMs);
  };
  const fail = (attempt: Attempt, failure: Failure): void => {
    if (!running.delete(attempt)) return;
    failures.push(failure);
    next();
  };
  return { winner, next, lose };
}

interface Attempt {
  readonly address: Address;
  stop(): void;
}

interface Failure {
  readonly address: Address;
  readonly code: string;
}

interface Around {
  readonly network: DialOptions['network'];
  readonly win: (attempt: Attempt, conn: Conn) => void;
  readonly fail: (attempt: Attempt, failure: Failure) => void;
}

function startAttempt(
  address: Address,
  port: number,
  timeoutMs: number,
  { network, win, fail }: Around,
): Attempt {
  const clock = setTimeout(() => {
    giveUp();
    fail(attempt, { address, code: 'ETIMEDOUT' });
  }, timeoutMs);
  const giveUp = network.connect(address, port, {
    connected(conn) {
      clearTimeout(clock);
      win(attempt, conn);
    },
    failed(code) {
      clearTimeout(clock);
      fail(attempt, { address, code });
    },
  });
  const attempt: Attempt = {
    address,
    stop() {
      clearTimeout(clock);
      giveUp();
    },
  };
  return attempt;
}

function verdictOn(failures: readonly Failure[]): ['dial_refused' | 'dial_timeout', string] {
  const isLate = failures.some((failure) => failure.code === 'ETIMEDOUT');
  const shown = failures.slice(0, 4).map(({ address, code }) => `${address.text} ${code}`);
  return [isLate ? 'dial_timeout' : 'dial_refused', shown.join(', ')];
}

function dialError({ host, port }: Grant, code: 'dial_refused' | 'dial_timeout', why: string): ProxyError {
  return new ProxyError(code, 'dial', `cannot connect to \`${host}\` port ${port}: ${why}`);
}
