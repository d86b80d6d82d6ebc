// Keeps a flood of clients that got nothing out of the audit file, and of names: a few a second are put on record, the rest are counted.
// Decides nothing about a client, and never holds back an allow or a verdict on a client.
import type { CloseEvent, DecisionEvent, NameEvent } from './index.ts';

/** Why a client or a name may be left out of the record: the `kind` label. */
export const floodKinds = ['limit_rate', 'client_gone', 'name_denied'] as const;

export type FloodKind = (typeof floodKinds)[number];

/** Clients a second of one principal that are put on record, and how many at once when it was quiet before. */
const rates: Readonly<Record<FloodKind, { readonly perSecond: number; readonly burst: number }>> = {
  // Above the connection rate already: each one looks like the other.
  limit_rate: { perSecond: 10, burst: 10 },
  // It left before it asked for anything, as a health check does.
  client_gone: { perSecond: 100, burst: 1000 },
  // A name that is asked for costs the asker one packet.
  name_denied: { perSecond: 10, burst: 100 },
};

/** A look-up is several questions: for both families, again over TCP, by every library on its own. */
const sameNameMs = 2000;

export interface FloodGate {
  /** The event as it is to be written; undefined: this client is counted and stays off the record, with its close. */
  decision(event: DecisionEvent): DecisionEvent | undefined;
  /** False when the client is off the record. */
  closes(event: CloseEvent): boolean;
  /** The event as it is to be written; undefined: it was told a moment ago, or is counted only. */
  name(event: NameEvent): NameEvent | undefined;
}

interface Account {
  places: number;
  filledAt: number;
  unrecorded: number;
}

// Principals come from configuration: this is a belt. Whoever is forgotten begins anew.
const maxAccounts = 8192;

/** `now` in ms on a clock that does not jump; `onUnrecorded` hears of every client that is left out, once. */
export function createFloodGate(now: () => number, onUnrecorded: (kind: FloodKind) => void): FloodGate {
  const accounts = new Map<string, Account>();
  /** Tunnels whose decision was left out, until their close. */
  const silent = new Set<string>();
  /** When each name was told last. */
  const told = new Map<string, number>();
  const enter = (kind: FloodKind, principal: string | null): Account | undefined => {
    const account = accountOf(accounts, `${kind} ${principal ?? ''}`, kind, now());
    if (account.places >= 1) {
      account.places -= 1;
      return account;
    }
    account.unrecorded += 1;
    onUnrecorded(kind);
    return undefined;
  };
  return {
    decision(event) {
      if (event.reason !== 'limit_rate') return event;
      const account = enter('limit_rate', event.principal);
      if (account === undefined) silent.add(event.tunnel);
      return account === undefined ? undefined : withCount(event, account);
    },
    closes(event) {
      if (silent.delete(event.tunnel)) return false;
      const leftUnasked = event.cause === 'client_gone' && event.verdict === null && event.host === '';
      return !leftUnasked || enter('client_gone', event.principal) !== undefined;
    },
    name(event) {
      const key = `${event.principal} ${event.reason} ${event.host}`;
      const before = told.get(key);
      if (before !== undefined && now() - before < sameNameMs) return undefined;
      const account = enter('name_denied', event.principal);
      if (account === undefined) return undefined;
      if (told.size >= maxAccounts) told.clear();
      told.set(key, now());
      return withCount(event, account);
    },
  };
}

/** The first one that is put on record again says how many were not. */
function withCount<Event extends DecisionEvent | NameEvent>(event: Event, account: Account): Event {
  const { unrecorded } = account;
  account.unrecorded = 0;
  if (unrecorded === 0) return event;
  return { ...event, detail: `${unrecorded} before this one were turned away and are not on record` };
}

function accountOf(accounts: Map<string, Account>, key: string, kind: FloodKind, at: number): Account {
  const { perSecond, burst } = rates[kind];
  const known = accounts.get(key);
  if (known === undefined) {
    if (accounts.size >= maxAccounts) accounts.clear();
    const fresh = { places: burst, filledAt: at, unrecorded: 0 };
    accounts.set(key, fresh);
    return fresh;
  }
  // A clock that went back gives nothing and takes nothing.
  const elapsedMs = Math.max(0, at - known.filledAt);
  known.places = Math.min(burst, known.places + (elapsedMs * perSecond) / 1000);
  known.filledAt = at;
  return known;
}
