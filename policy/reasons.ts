// The one closed list of reasons and failure codes, each with its sentence. Decides nothing and knows no policy.
// docs/reasons.md is generated from here.

export type Verdict = 'allow' | 'deny';

export type Reason =
  | 'rule_matched'
  | 'service_matched'
  | 'request_malformed'
  | 'principal_unknown'
  | 'rule_denied'
  | 'no_rule_matched'
  | 'port_not_allowed'
  | 'protocol_not_allowed'
  | 'host_is_address'
  | 'address_not_public'
  | 'server_name_missing'
  | 'server_name_mismatch'
  | 'ech_refused'
  | 'not_tls'
  | 'hello_malformed'
  | 'hello_timeout'
  | 'limit_tunnels'
  | 'limit_rate'
  | 'limit_bytes'
  | 'policy_changed'
  | 'fence_broken'
  | 'draining';

/** The world failing, which is never a verdict and never shares a status with a denial. */
export type FailureCode =
  | 'dns_failed'
  | 'dns_timeout'
  | 'dial_refused'
  | 'dial_timeout'
  | 'upstream_reset'
  | 'audit_unavailable'
  | 'internal';

/** One word of the list: what it means (`sentence`) and what whoever met it can do next (`hint`). */
export interface ReasonText {
  readonly name: Reason;
  readonly verdict: Verdict;
  readonly sentence: string;
  readonly hint: string;
}

export interface FailureText {
  readonly name: FailureCode;
  readonly sentence: string;
  readonly hint: string;
}

// A mapped type, so that a reason without its sentence is a compile error.
const reasonRows: { readonly [name in Reason]: readonly [Verdict, sentence: string, hint: string] } = {
  rule_matched: [
    'allow',
    'An allow rule names this host, port and protocol.',
    'Nothing to do: the addresses and the TLS server name are still judged when the tunnel opens.',
  ],
  service_matched: [
    'allow',
    'A named service leads to exactly this host and port.',
    'Nothing to do: the addresses are still judged when the tunnel opens.',
  ],
  request_malformed: [
    'deny',
    'The request does not name one host and one port in the strict grammar.',
    'Send `host:port` with an ASCII host name of at least two labels and a port from 1 to 65535.',
  ],
  principal_unknown: [
    'deny',
    'The client comes from a source that no principal is declared for.',
    'Declare a principal for this source address in the configuration of the proxy.',
  ],
  rule_denied: [
    'deny',
    'A deny rule names this host; no allow rule can overturn it.',
    'Use another host: this one was refused on purpose.',
  ],
  no_rule_matched: [
    'deny',
    'No rule names this host, and what is not named is denied.',
    'Use a host that `policy list` shows, or ask for a rule.',
  ],
  port_not_allowed: [
    'deny',
    'The host is allowed, but not on this port.',
    'Use one of the ports of the rule; without a list that is 443 only.',
  ],
  protocol_not_allowed: [
    'deny',
    'The host is allowed, but not with the protocol this way in carries.',
    'Use TLS to a host that has a TLS rule; a CONNECT tunnel carries nothing else.',
  ],
  host_is_address: [
    'deny',
    'The request names an IP address, in some spelling, instead of a host.',
    'Use the host name; an address can only be reached as a named service.',
  ],
  address_not_public: [
    'deny',
    'The name is allowed, but an address it resolves to may not be dialled.',
    'Pin the expected addresses with "addresses" on this one rule if the host is internal on purpose.',
  ],
  server_name_missing: [
    'deny',
    'The TLS ClientHello carries no server name, so the tunnel cannot be tied to the host that was judged.',
    'Use a client that sends SNI.',
  ],
  server_name_mismatch: [
    'deny',
    'The TLS server name is another one than the host that was judged.',
    'Ask the proxy for the same host that the TLS handshake names.',
  ],
  ech_refused: [
    'deny',
    'The ClientHello is encrypted (ECH, or its GREASE), so the server name in it proves nothing.',
    'Switch ECH off in the client; a rule may state `ech: "allow"` and accept the risk.',
  ],
  not_tls: [
    'deny',
    'The first bytes in the tunnel are not TLS.',
    'Speak TLS, or have the destination named as a service (opaque TCP).',
  ],
  hello_malformed: [
    'deny',
    'The first bytes look like TLS but are not one whole, valid ClientHello.',
    'Use an unmodified TLS client.',
  ],
  hello_timeout: [
    'deny',
    'No whole ClientHello arrived in time.',
    'Let the client speak first: protocols where the server greets need a named service.',
  ],
  limit_tunnels: [
    'deny',
    'Too many tunnels are open, for this principal or in all.',
    'Close some, or try again later.',
  ],
  limit_rate: ['deny', 'New connections arrive faster than the limit.', 'Slow down and try again.'],
  limit_bytes: [
    'deny',
    'The tunnel has carried as many bytes as its rule allows.',
    'Move fewer bytes, or ask for a higher limit on the rule.',
  ],
  policy_changed: [
    'deny',
    'The policy was reloaded and would no longer admit this tunnel.',
    'Ask again: the request is decided by the policy in force.',
  ],
  fence_broken: [
    'deny',
    'The kernel fence around the client was not as planned, so what it had open was cut.',
    'Ask again once the proxy is ready: the fence is put back, or the link stays down.',
  ],
  draining: ['deny', 'The proxy is shutting down and opens no new tunnels.', 'Try again when it is back.'],
};

const failureRows: { readonly [name in FailureCode]: readonly [sentence: string, hint: string] } = {
  dns_failed: ['The name is allowed but could not be resolved.', 'Check the name and the resolver.'],
  dns_timeout: ['The resolver did not answer in time.', 'Try again; check the resolver.'],
  dial_refused: ['No judged address accepted the connection.', 'Check that the destination is up.'],
  dial_timeout: ['No judged address answered in time.', 'Try again; check the route to the destination.'],
  upstream_reset: ['The destination broke the connection.', 'Try again; check the destination.'],
  audit_unavailable: [
    'The audit line could not be written, so nothing was opened.',
    'Make the audit file writable again; the proxy refuses until then.',
  ],
  internal: ['The proxy met a bug and severed this tunnel only.', 'Report it with the log line of this run.'],
};

const rows: [string, readonly [Verdict, string, string]][] = Object.entries(reasonRows);

function isReason(name: string): name is Reason {
  return Object.hasOwn(reasonRows, name);
}

function isFailureCode(name: string): name is FailureCode {
  return Object.hasOwn(failureRows, name);
}

/** Every reason, in the order of design §4.3. */
export const reasons: readonly ReasonText[] = rows.flatMap(([name, [verdict, sentence, hint]]) =>
  isReason(name) ? [{ name, verdict, sentence, hint }] : [],
);

/** Every failure code. */
export const failureCodes: readonly FailureText[] = Object.entries(failureRows).flatMap(
  ([name, [sentence, hint]]) => (isFailureCode(name) ? [{ name, sentence, hint }] : []),
);

/** The row of one reason. */
export function reasonText(name: Reason): ReasonText {
  const [verdict, sentence, hint] = reasonRows[name];
  return { name, verdict, sentence, hint };
}

/** Markdown of docs/reasons.md. */
export function reasonsPage(): string {
  const reasonLines = reasons.map((r) => `| \`${r.name}\` | ${r.verdict} | ${r.sentence} | ${r.hint} |`);
  const failureLines = failureCodes.map((f) => `| \`${f.name}\` | ${f.sentence} | ${f.hint} |`);
  return [
    '# Reasons',
    '',
    'Generated from `policy/reasons.ts`; do not edit by hand. The same word stands in `policy check`, in the refusal',
    '(`Sallyport-Reason`), in the audit line and in the metrics.',
    '',
    '| reason | verdict | what it means | what to do |',
    '| --- | --- | --- | --- |',
    ...reasonLines,
    '',
    '## Failures that are not verdicts',
    '',
    'The request was allowed and the world failed. They never share a status with a denial.',
    '',
    '| code | what it means | what to do |',
    '| --- | --- | --- |',
    ...failureLines,
    '',
  ].join('\n');
}
