// The command's environment: built from nothing, plus what was asked for by name. It passes values on and never reads process.env.
import { RunRefused } from './refusal.ts';
import { printable } from './names.ts';
import type { Wiring } from './wiring.ts';

/** Where the command finds the proxy, and who it is. */
export interface EnvironmentSpec {
  readonly id: string;
  readonly proxy: { readonly address: string; readonly port: number };
  /** Names that are reached directly on the proxy address (service aliases). */
  readonly direct: readonly string[];
  /** `K` copies K from `caller`; `K=V` sets it. */
  readonly wanted: readonly string[];
  readonly wiring: Wiring;
  readonly caller: Readonly<Record<string, string | undefined>>;
}

const namePattern = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const reserved = /^(SALLYPORT_|SPENV_)/;

/** PATH in the sandbox: directories of the system that only root can change. */
export const sandboxPath =
  '/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/run/current-system/sw/bin';

/** The fixed part; HOME and PATH are those of the sandbox, not the caller's. */
const base: readonly (readonly [string, string])[] = [
  ['HOME', '/home/agent'],
  ['USER', 'agent'],
  ['LOGNAME', 'agent'],
  ['SHELL', '/bin/sh'],
  ['TMPDIR', '/tmp'],
  ['LANG', 'C.UTF-8'],
  ['PATH', sandboxPath],
];

/** The whole environment of a command in a sandbox. Throws RunRefused when an asked-for name is bad or not set. */
export function sandboxEnvironment(spec: EnvironmentSpec): ReadonlyMap<string, string> {
  return new Map([
    ...base,
    ...terminal(spec.caller),
    ...wantedVariables(spec.wanted, spec.caller),
    ...(spec.wiring === 'transparent' ? runVariable(spec) : proxyVariables(spec)),
  ]);
}

/** Proxy variables in both cases, Node's switch and the JVM's properties. curl reads only the lower-case http_proxy, others only upper case. */
export function proxyVariables(
  spec: Omit<EnvironmentSpec, 'wanted' | 'wiring' | 'caller'>,
): ReadonlyMap<string, string> {
  const url = `http://${spec.proxy.address}:${spec.proxy.port}`;
  const direct = ['localhost', '127.0.0.1', '::1', spec.proxy.address, ...spec.direct];
  const variables = new Map<string, string>();
  for (const name of ['http_proxy', 'https_proxy', 'all_proxy']) both(variables, name, url);
  both(variables, 'no_proxy', direct.join(','));
  variables.set('NODE_USE_ENV_PROXY', '1');
  variables.set('JAVA_TOOL_OPTIONS', javaOptions(spec.proxy, direct));
  return new Map([...variables, ...runVariable(spec)]);
}

function runVariable({ id }: Pick<EnvironmentSpec, 'id'>): ReadonlyMap<string, string> {
  return new Map([['SALLYPORT_RUN', id]]);
}

function both(variables: Map<string, string>, name: string, value: string): void {
  variables.set(name, value);
  variables.set(name.toUpperCase(), value);
}

function javaOptions(proxy: EnvironmentSpec['proxy'], direct: readonly string[]): string {
  const schemes = ['http', 'https'].flatMap((scheme) => [
    `-D${scheme}.proxyHost=${proxy.address}`,
    `-D${scheme}.proxyPort=${proxy.port}`,
  ]);
  return [...schemes, `-Dhttp.nonProxyHosts=${direct.join('|')}`].join(' ');
}

/** TERM only: programs draw wrongly without it, and it opens nothing. */
function terminal(caller: EnvironmentSpec['caller']): readonly (readonly [string, string])[] {
  const term = caller['TERM'];
  return term === undefined || !/^[A-Za-z0-9+.-]{1,40}$/.test(term) ? [] : [['TERM', term]];
}

/** `K` copied from `caller`, `K=V` set. Throws RunRefused (usage) when a name is bad or not set. */
export function wantedVariables(
  wanted: readonly string[],
  caller: EnvironmentSpec['caller'],
): readonly (readonly [string, string])[] {
  return wanted.map((text) => {
    const at = text.indexOf('=');
    const name = at === -1 ? text : text.slice(0, at);
    checkName(name);
    const value = at === -1 ? caller[name] : text.slice(at + 1);
    if (value !== undefined) return [name, value];
    throw new RunRefused(
      'usage',
      `--env \`${name}\`: it is not set here`,
      'set it, or give the value as --env NAME=VALUE',
    );
  });
}

/** The variables that lead to the proxy; another value would only lead to nowhere. */
const ofRunner: ReadonlySet<string> = new Set(
  proxyVariables({ id: '', proxy: { address: '', port: 0 }, direct: [] }).keys(),
);

function checkName(name: string): void {
  if (ofRunner.has(name)) {
    const own = 'leave it out; a name or port beyond the proxy is a matter of the policy, or of --service';
    throw new RunRefused('usage', `--env \`${name}\` is set by the runner itself`, own);
  }
  if (namePattern.test(name) && !reserved.test(name)) return;
  const help =
    'use letters, digits and `_`, not starting with a digit; SALLYPORT_ names belong to the runner';
  throw new RunRefused('usage', `--env \`${printable(name)}\` is not a name to pass on`, help);
}
