// What a schema cannot say about the document as a whole: duplicates and contradictions. One entry alone: entry-checks.ts.

import {
  ruleIdOf,
  serviceIdOf,
  type AuthoredRule,
  type AuthoredService,
  type TestDocument,
} from './document.ts';
import {
  checkAllow,
  checkDeny,
  checkService,
  checkTest,
  type CheckedService,
  type Place,
  type Report,
} from './entry-checks.ts';
import { printable } from './printable.ts';
import { pointerOf, type Problem } from './problem.ts';

/** One entry that the schema has accepted, with its index in the list as written. */
export interface Entry<T> {
  readonly index: number;
  readonly value: T;
}

export interface Entries {
  readonly allow: readonly Entry<AuthoredRule>[];
  readonly deny: readonly Entry<AuthoredRule>[];
  readonly services: readonly Entry<CheckedService>[];
  readonly tests: readonly Entry<TestDocument>[];
}

/** Every problem of the entries that the schema has accepted. */
export function semanticProblems(entries: Entries): Problem[] {
  const problems: Problem[] = [];
  const report: Report = (place, message, help) => {
    problems.push({ ...place, message, help });
  };
  for (const { index, value } of entries.allow) checkAllow(value, rulePlace('allow', index, value), report);
  for (const { index, value } of entries.deny) checkDeny(value, rulePlace('deny', index, value), report);
  for (const { index, value } of entries.services) checkService(value, servicePlace(index, value), report);
  for (const { index, value } of entries.tests) checkTest(value, testPlace(index), report);
  for (const facts of uniqueFacts(entries)) reportRepeats(facts, report);
  reportContradictions(entries, report);
  return problems;
}

type List = 'allow' | 'deny' | 'services';

function placeIn(list: List, index: number, name: string, group: string | undefined): Place {
  const path = group === undefined ? list : `groups.${JSON.stringify(group)}.${list}`;
  return (...keys) => ({
    pointer: pointerOf([list, index, ...keys]),
    nix: [path, JSON.stringify(name), ...keys.filter((key) => typeof key === 'string')].join('.'),
  });
}

const rulePlace = (list: 'allow' | 'deny', index: number, rule: AuthoredRule): Place =>
  placeIn(list, index, rule.host, rule.group);
const servicePlace = (index: number, service: AuthoredService): Place =>
  placeIn('services', index, service.name, service.group);
const testPlace =
  (index: number): Place =>
  (...keys) => ({ pointer: pointerOf(['tests', index, ...keys]) });

/** A value that may stand only once, and where it stands. */
interface Fact {
  readonly value: string;
  /** Asked for a problem only: hardly any fact has one. */
  readonly place: () => ReturnType<Place>;
  /** A default id repeats only where its host or name does: that is one problem, not two. */
  readonly isDefault?: boolean;
}

function* uniqueFacts({ allow, deny, services, tests }: Entries): Generator<{ what: string; facts: Fact[] }> {
  const ofRules = (list: 'allow' | 'deny', rules: Entries['allow']): Fact[] =>
    rules.map(({ index, value }) => ({
      value: value.host,
      place: () => rulePlace(list, index, value)('host'),
    }));
  const ofServices = services.map(({ index, value }) => ({
    value: value.name,
    place: () => servicePlace(index, value)('name'),
  }));
  const ofTests = tests.map(({ index, value }) => ({
    value: value.target,
    place: () => testPlace(index)('target'),
  }));

  yield { what: 'host', facts: ofRules('allow', allow) };
  yield { what: 'host', facts: ofRules('deny', deny) };
  yield { what: 'service name', facts: ofServices };
  yield { what: 'target', facts: ofTests };
  yield { what: 'id', facts: idFacts({ allow, deny, services, tests }) };
}

function idFacts({ allow, deny, services }: Entries): Fact[] {
  return [
    ...allow.map(({ index, value }) =>
      idFact(ruleIdOf('allow', value), value.id, rulePlace('allow', index, value)),
    ),
    ...deny.map(({ index, value }) =>
      idFact(ruleIdOf('deny', value), value.id, rulePlace('deny', index, value)),
    ),
    ...services.map(({ index, value }) => idFact(serviceIdOf(value), value.id, servicePlace(index, value))),
  ];
}

function idFact(value: string, written: string | undefined, place: Place): Fact {
  return { value, place: () => place('id'), isDefault: written === undefined };
}

function reportRepeats({ what, facts }: { what: string; facts: readonly Fact[] }, report: Report): void {
  const first = new Map<string, Fact>();
  for (const fact of facts) {
    const earlier = first.get(fact.value);
    if (earlier === undefined) first.set(fact.value, fact);
    else if (fact.isDefault !== true || earlier.isDefault !== true) {
      const message = `the ${what} \`${printable(fact.value)}\` stands at ${earlier.place().pointer} already`;
      report(fact.place(), message, repeatHelp(what));
    }
  }
}

function repeatHelp(what: string): string {
  if (what === 'host') return 'merge the two into one rule: one host has one rule in each list';
  return 'keep one of the two';
}

function reportContradictions({ allow, deny, services }: Entries, report: Report): void {
  const denied = new Map(deny.map(({ index, value }) => [value.host, index]));
  const contradict = (host: string, place: Place): void => {
    const index = denied.get(host);
    if (index === undefined) return;
    report(
      place('host'),
      `\`${printable(host)}\` is denied at /deny/${index} too, and a deny rule always wins`,
      'remove one of the two',
    );
  };
  for (const { index, value } of allow) contradict(value.host, rulePlace('allow', index, value));
  for (const { index, value } of services) contradict(value.host, servicePlace(index, value));
}
