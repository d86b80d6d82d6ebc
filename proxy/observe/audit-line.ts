// Turns an event into the plain record that is written: known fields only, capped, nothing that could break a line or a terminal.
import type { CloseEvent, DecisionEvent, DropEvent, NameEvent } from './index.ts';

const maxText = 512;
const maxAddresses = 64;

// C0, DEL, C1 (a terminal obeys them), line and paragraph separators, and the marks that turn text around.
// oxlint-disable-next-line no-control-regex
const unprintable = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** Text as it may stand in the audit: well-formed, no control characters, at most 512 characters. */
export function cleanText(text: string): string {
  const cut = text.length > maxText ? `${text.slice(0, maxText - 1)}…` : text;
  return cut.toWellFormed().replace(unprintable, '\ufffd');
}

function cleanOrNull(text: string | null): string | null {
  return text === null ? null : cleanText(text);
}

/** The record of a decision. Field by field: what a caller hangs on to an event never reaches the file. */
export function decisionRecord(event: DecisionEvent): Record<string, unknown> {
  return {
    ...clientFields(event),
    verdict: event.verdict,
    reason: event.reason,
    rule: cleanOrNull(event.rule),
    group: cleanOrNull(event.group),
    policy: cleanText(event.policy),
    addresses: event.addresses.slice(0, maxAddresses).map(cleanText),
    detail: cleanOrNull(event.detail),
  };
}

/** The record of a close. */
export function closeRecord(event: CloseEvent): Record<string, unknown> {
  const { total, resolve, dial, hello } = event.ms;
  return {
    ...clientFields(event),
    verdict: event.verdict,
    reason: event.reason,
    cause: event.cause,
    address: cleanOrNull(event.address),
    up: event.up,
    down: event.down,
    ms: { total: micro(total), resolve: micro(resolve), dial: micro(dial), hello: micro(hello) },
    policy: cleanText(event.policy),
  };
}

/** The record of a denied name. */
export function nameRecord(event: NameEvent): Record<string, unknown> {
  return {
    event: event.event,
    time: cleanText(event.time),
    run: cleanOrNull(event.run),
    principal: cleanText(event.principal),
    peer: cleanText(event.peer),
    listener: cleanText(event.listener),
    host: cleanText(event.host),
    verdict: event.verdict,
    reason: event.reason,
    rule: cleanOrNull(event.rule),
    group: cleanOrNull(event.group),
    policy: cleanText(event.policy),
    detail: cleanOrNull(event.detail),
  };
}

/** The record of a drop. */
export function dropRecord(event: DropEvent): Record<string, unknown> {
  return {
    event: event.event,
    time: cleanText(event.time),
    run: cleanOrNull(event.run),
    principal: cleanText(event.principal),
    class: event.class,
    protocol: cleanText(event.protocol),
    source: cleanOrNull(event.source),
    address: cleanOrNull(event.address),
    port: event.port,
  };
}

/** Milliseconds to the microsecond; more digits are noise. */
function micro(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.round(ms * 1000) / 1000;
}

function clientFields(event: DecisionEvent | CloseEvent): Record<string, unknown> {
  return {
    event: event.event,
    time: cleanText(event.time),
    run: cleanOrNull(event.run),
    tunnel: cleanText(event.tunnel),
    principal: cleanOrNull(event.principal),
    peer: cleanText(event.peer),
    listener: cleanText(event.listener),
    mode: event.mode,
    host: cleanText(event.host),
    port: event.port,
  };
}
