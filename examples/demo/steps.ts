// What the agent tries in the demo, and what must come of each. A table: to see one more thing tried, add a row.
import { originAddress } from './world.ts';

/** What one step left behind, gathered from the agent's own output, the audit, the kernel's counters and the outside. */
export interface Evidence {
  readonly output: string;
  readonly status: number;
  /** Reason of the last verdict that the audit has for this step; empty when the proxy was not asked. */
  readonly reason: string;
  readonly rule: string;
  /** Kernel drop counters that rose during the step, with by how much. */
  readonly drops: ReadonlyMap<string, number>;
  /** What the outside saw during the step. */
  readonly outside: readonly { readonly what: string; readonly name?: string }[];
}

export interface Step {
  readonly says: string;
  readonly command: string;
  /** What happened in words when it is as expected, else undefined. */
  readonly expected: (e: Evidence) => string | undefined;
}

/** `PROXY` is replaced by the proxy's address as the sandbox sees it. */
export const steps: readonly Step[] = [
  {
    says: 'curl an allowed API',
    command: 'curl -sS --max-time 10 https://api.anthropic.com/v1/models',
    expected: (e) =>
      when(
        e.status === 0 && e.output.includes('"host":"api.anthropic.com"') && e.reason === 'rule_matched',
        `answered: ${e.reason}, ${e.rule}`,
      ),
  },
  {
    says: 'the same by a program that knows no proxy',
    command: `curl -sS --noproxy '*' --max-time 10 https://api.anthropic.com/v1/models`,
    expected: (e) =>
      when(
        e.status === 0 && e.output.includes('"host":"api.anthropic.com"') && e.reason === 'rule_matched',
        `led by DNS and its server name: ${e.reason}`,
      ),
  },
  {
    says: 'git clone from an allowed host',
    command: 'git clone -q https://github.com/demo/project.git && git -C project log --oneline | cat',
    expected: (e) =>
      when(
        e.status === 0 && e.output.includes('first') && e.reason === 'rule_matched',
        `cloned: ${e.reason}, ${e.rule}`,
      ),
  },
  {
    says: 'git push to it',
    command:
      'cd project && echo more >> README.md && git -c user.name=agent -c user.email=agent@sallyport.example commit -qam more && git push -q origin HEAD:agent && cd ..',
    expected: (e) => when(e.status === 0 && e.reason === 'rule_matched', `pushed: ${e.reason}, ${e.rule}`),
  },
  {
    says: 'curl a host no rule names',
    command: 'curl -sS --max-time 10 https://evil.example/',
    expected: (e) =>
      when(
        e.status !== 0 && e.reason === 'no_rule_matched' && e.outside.length === 0,
        'refused, never looked up: no_rule_matched',
      ),
  },
  {
    says: 'curl a sibling of an allowed host',
    command: 'curl -sS --max-time 10 https://gist.github.com/',
    expected: (e) =>
      when(
        e.status !== 0 && e.reason === 'no_rule_matched' && e.outside.length === 0,
        'refused: no_rule_matched',
      ),
  },
  {
    says: 'an allowed host on another port',
    command: 'curl -sS --max-time 10 https://github.com:22/',
    expected: (e) =>
      when(
        e.status !== 0 && e.reason === 'port_not_allowed' && e.outside.length === 0,
        'refused: port_not_allowed',
      ),
  },
  {
    says: 'another server name in an allowed tunnel',
    command:
      'openssl s_client -proxy PROXY:3128 -connect api.anthropic.com:443 -servername github.com </dev/null 2>&1 | tail -1',
    expected: (e) =>
      when(
        e.reason === 'server_name_mismatch' && e.outside.every((s) => s.what === 'connection'),
        'severed before a byte went out: server_name_mismatch',
      ),
  },
  {
    says: 'a raw address through the proxy',
    command: `curl -sS --max-time 10 https://${originAddress}/`,
    expected: (e) =>
      when(
        e.status !== 0 && e.reason === 'host_is_address' && e.outside.length === 0,
        'refused: host_is_address',
      ),
  },
  {
    says: 'a raw address, ignoring the proxy',
    command: `curl -sS --noproxy '*' --max-time 3 https://${originAddress}/`,
    expected: (e) => when(e.status !== 0 && e.outside.length === 0, 'no route out of the sandbox'),
  },
  {
    says: 'UDP to the outside',
    command: `echo leak | nc -u -w1 ${originAddress} 53`,
    expected: (e) => when(e.status !== 0 && e.outside.length === 0, 'no route out of the sandbox'),
  },
  {
    says: 'UDP on the one link there is',
    command: 'echo leak | nc -u -w1 PROXY 853',
    expected: (e) => when(rose(e, 'dns') && e.outside.length === 0, `dropped by the kernel: ${counts(e)}`),
  },
  {
    says: 'look up a name no rule names',
    command: 'getent hosts secret.evil.example',
    expected: (e) =>
      when(
        e.status !== 0 && e.reason === 'no_rule_matched' && e.outside.length === 0,
        'no such name, and no packet left: no_rule_matched',
      ),
  },
  {
    says: 'another port of this machine',
    command: 'nc -z -w1 PROXY 22',
    expected: (e) => when(e.status !== 0 && rose(e, 'host'), `dropped by the kernel: ${counts(e)}`),
  },
  {
    says: 'ping',
    command: 'ping -c1 -W1 PROXY',
    expected: (e) =>
      when(
        e.status !== 0 && (rose(e, 'icmp') || /permitted/.test(e.output)),
        rose(e, 'icmp') ? `dropped by the kernel: ${counts(e)}` : 'no right to open the socket',
      ),
  },
  {
    says: 'switch the fence off',
    command: 'nft flush ruleset',
    expected: (e) => when(e.status !== 0, 'not permitted'),
  },
];

function when(holds: boolean, words: string): string | undefined {
  return holds ? words : undefined;
}

function rose(e: Evidence, counter: string): boolean {
  return (e.drops.get(counter) ?? 0) > 0;
}

function counts(e: Evidence): string {
  return [...e.drops].map(([name, by]) => `counter ${name} +${by}`).join(', ');
}
