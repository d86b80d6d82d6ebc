// Runs the corpus in cases/ through the API, and what a command line can say through the CLI too. A case is data.
import { execFile } from 'node:child_process';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import {
  confirm,
  decide,
  explain,
  grant,
  parsePolicy,
  parseTarget,
  reasons,
  type Decision,
  type EgressRequest,
  type Policy,
  type ServerNameFact,
} from '../../policy/index.ts';
import { addressOf } from '../helpers/address.ts';

interface Case {
  readonly name: string;
  readonly target: string;
  readonly principal?: null;
  readonly service?: string;
  /** Answers of the resolver: the case goes through gate 2. */
  readonly addresses?: readonly string[];
  readonly own?: readonly string[];
  /** The first bytes: the case goes through gate 3. */
  readonly hello?: ServerNameFact;
  readonly verdict: string;
  readonly reason: string;
  readonly rule?: string;
  readonly host?: string;
  readonly port?: number;
}

interface Corpus {
  readonly about: string;
  readonly policy: unknown;
  readonly cases: readonly Case[];
}

const root = join(import.meta.dirname, '../..');
const files = globSync('test/policy/cases/*.json', { cwd: root }).toSorted();
const read = (file: string): Corpus => JSON.parse(readFileSync(join(root, file), 'utf8')) as Corpus;
const publicAnswer = '93.184.215.14';

/** The last gate's answer to a case. */
function decideCase(policy: Policy, c: Case): Decision {
  const request: EgressRequest = {
    principal: c.principal === null ? undefined : { name: 'local' },
    target: parseTarget(c.target, 443),
    mode: c.service === undefined ? 'connect' : 'service',
    ...(c.service === undefined ? {} : { service: c.service }),
  };
  const decision = decide(policy, request);
  const given = grant(
    policy,
    request,
    decision,
    (c.addresses ?? [publicAnswer]).map(addressOf),
    (c.own ?? []).map(addressOf),
  );
  if ('verdict' in given) return c.addresses === undefined && c.hello === undefined ? decision : given;
  return c.hello === undefined ? decision : confirm(given, c.hello);
}

function shownAs(c: Case, decision: Pick<Decision, 'verdict' | 'reason' | 'rule' | 'host' | 'port'>): Case {
  return {
    ...c,
    verdict: decision.verdict,
    reason: decision.reason,
    ...(c.rule === undefined ? {} : { rule: decision.rule?.id ?? 'none' }),
    ...(c.host === undefined ? {} : { host: decision.host }),
    ...(c.port === undefined ? {} : { port: decision.port ?? 0 }),
  };
}

/** What `policy check` can be asked: CONNECT by a known principal, gate 1, and no NUL in an argument. */
function isForCli(c: Case): boolean {
  const isGateOne = c.addresses === undefined && c.hello === undefined && c.service === undefined;
  return isGateOne && c.principal !== null && !c.target.includes('\0');
}

async function checkByCli(policyFile: string, targets: readonly string[]): Promise<Decision[]> {
  const args = ['check', '--policy', policyFile, '--json', '--', ...targets];
  const run = promisify(execFile)(join(root, 'policy/bin.sh'), args);
  const { stdout } = await run.catch((error: unknown) => error as { stdout: string });
  return JSON.parse(stdout) as Decision[];
}

for (const file of files) {
  t.test(`${file}: the API and the CLI both answer as written`, async (t) => {
    const corpus = read(file);
    const text = JSON.stringify(corpus.policy);
    const policy = parsePolicy(text);
    for (const c of corpus.cases) t.same(shownAs(c, decideCase(policy, c)), c, c.name);

    const path = join(t.testdir({}), 'policy.json');
    writeFileSync(path, text);
    const asked = corpus.cases.filter(isForCli);
    const answers =
      asked.length === 0
        ? []
        : await checkByCli(
            path,
            asked.map((c) => c.target),
          );
    t.same(
      answers.map((answer, i) => asked[i] && shownAs(asked[i], answer)),
      asked,
      'through the CLI',
    );
    const differing = answers.filter((answer, i) => {
      const own = asked[i] && decideCase(policy, asked[i]);
      return own === undefined || own.verdict !== answer.verdict || own.reason !== answer.reason;
    });
    t.same(differing, [], 'check says what decide() says');
  });
}

t.test('every reason of the three gates stands in some case', async (t) => {
  const seen = new Set(files.flatMap((file) => read(file).cases.map((c) => c.reason)));
  // What no gate says: limits and the life of the process. Their tests stand beside the proxy.
  const elsewhere = [
    'limit_tunnels',
    'limit_rate',
    'limit_bytes',
    'policy_changed',
    'fence_broken',
    'draining',
  ];
  const missing = reasons.map(({ name }) => name).filter((name) => !seen.has(name));
  t.same(missing, elsewhere);
});

t.test('every reason stands in some test file', async (t) => {
  const tests = globSync('test/**/*.{ts,json}', { cwd: root }).filter(
    (file) => !file.endsWith('cases.test.ts'),
  );
  const text = tests.map((file) => readFileSync(join(root, file), 'utf8')).join('\n');
  t.same(
    reasons
      .map(({ name }) => name)
      .filter((name) => !text.includes(`'${name}'`) && !text.includes(`"${name}"`)),
    [],
  );
});

t.test('every decision of the corpus can be explained without a stray undefined', async (t) => {
  const policies = files.map((file) => ({
    ...read(file),
    policy: parsePolicy(JSON.stringify(read(file).policy)),
  }));
  const texts = policies.flatMap(({ policy, cases }) =>
    cases.map((c) => JSON.stringify(explain(policy, decideCase(policy, c)))),
  );
  t.same(
    texts.filter((text) => /undefined|null|\[object/.test(text)),
    [],
  );
});
