// Counts open tunnels and new connections per principal and in all, and says no above the limits. Knows no sockets and no policy.

/** How many refused clients may take their time to read why. */
export const maxLingering = { maxTunnels: 4096, maxTunnelsPerPrincipal: 256 } as const;

export interface LimitsOptions {
  readonly maxTunnels: number;
  readonly maxTunnelsPerPrincipal: number;
  /** Per principal: how fast its token bucket refills. */
  readonly maxConnectionsPerSecond: number;
  /** Per principal: how many connections at once when it was quiet before. */
  readonly burst: number;
  /** Milliseconds on any clock that does not jump. */
  readonly now: () => number;
}

/** No bound at all, for whoever counts one thing only. */
export const endless = {
  maxTunnels: Number.MAX_SAFE_INTEGER,
  maxTunnelsPerPrincipal: Number.MAX_SAFE_INTEGER,
  maxConnectionsPerSecond: Number.MAX_SAFE_INTEGER,
  burst: Number.MAX_SAFE_INTEGER,
} as const;

/** release() gives the place back once, however often it is called. */
export type Acquired =
  | { readonly ok: true; release(): void }
  | { readonly ok: false; readonly reason: 'limit_tunnels' | 'limit_rate' };

export interface Limits {
  /** Takes a place for one tunnel of `principal`. A refused attempt costs a token too: retrying in a loop does not help. */
  acquire(principal: string): Acquired;
  /** Tunnels open now. */
  readonly open: number;
}

interface Account {
  open: number;
  tokens: number;
  filledAt: number;
}

// Principals come from configuration, so this is a belt: memory stays bounded even if a listener named them badly.
const maxPrincipals = 4096;

export function createLimits(options: LimitsOptions): Limits {
  const accounts = new Map<string, Account>();
  let open = 0;
  const enter = (account: Account): Acquired => {
    account.open += 1;
    open += 1;
    const leave = (): void => {
      account.open -= 1;
      open -= 1;
    };
    return { ok: true, release: once(leave) };
  };
  return {
    acquire(principal) {
      const account = accountOf(accounts, principal, options);
      if (account === undefined) return { ok: false, reason: 'limit_tunnels' };
      if (!takeToken(account, options)) return { ok: false, reason: 'limit_rate' };
      const isFull = open >= options.maxTunnels || account.open >= options.maxTunnelsPerPrincipal;
      return isFull ? { ok: false, reason: 'limit_tunnels' } : enter(account);
    },
    get open() {
      return open;
    },
  };
}

function accountOf(
  accounts: Map<string, Account>,
  principal: string,
  options: LimitsOptions,
): Account | undefined {
  const known = accounts.get(principal);
  if (known !== undefined) return known;
  if (accounts.size >= maxPrincipals) forgetQuiet(accounts, options);
  if (accounts.size >= maxPrincipals) return undefined;
  const fresh = { open: 0, tokens: options.burst, filledAt: options.now() };
  accounts.set(principal, fresh);
  return fresh;
}

/** An account with nothing open and a full bucket says the same as no account. */
function forgetQuiet(accounts: Map<string, Account>, options: LimitsOptions): void {
  for (const [principal, account] of accounts) {
    refill(account, options);
    if (account.open === 0 && account.tokens >= options.burst) accounts.delete(principal);
  }
}

function takeToken(account: Account, options: LimitsOptions): boolean {
  refill(account, options);
  if (account.tokens < 1) return false;
  account.tokens -= 1;
  return true;
}

function refill(account: Account, { maxConnectionsPerSecond, burst, now }: LimitsOptions): void {
  const at = now();
  // A clock that went back gives nothing and takes nothing.
  const elapsedMs = Math.max(0, at - account.filledAt);
  account.tokens = Math.min(burst, account.tokens + (elapsedMs * maxConnectionsPerSecond) / 1000);
  account.filledAt = at;
}

function once(action: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    action();
  };
}
