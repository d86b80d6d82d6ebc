// The launch gate's judgement, its table and its record: whatever single signal is false, nothing is run. The probes themselves are tried in
// test/kernel.
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import t from 'tap';
import type { DoorSignal } from '../../container/gate/ask-doors.ts';
import { questionFor, readAnswer } from '../../container/gate/dns-message.ts';
import { judgeGate, refuseUnlessPassed, type GateSignals } from '../../container/gate/judge.ts';
import { lentTo, type Place } from '../../container/gate/place.ts';
import type { ProbeAnswer } from '../../container/gate/probe-child.ts';
import { probesOf } from '../../container/gate/probes.ts';
import { digestOf, makeRecord, writeRecord } from '../../container/gate/record.ts';
import schema from '../../container/gate/record.schema.json' with { type: 'json' };
import { probeCount } from '../../container/gate/result.ts';
import type { Sighting } from '../../container/gate/rounds.ts';
import { waysOf } from '../../container/gate/unrouted.ts';
import { namesOf } from '../../container/names.ts';
import { RunRefused } from '../../container/refusal.ts';
import { slotAt } from '../../container/slot.ts';
import { packetClasses } from '../../nft/index.ts';
import { needs } from '../helpers/needs.ts';

const replied = (reply: string): ProbeAnswer => ({ id: 'x', outcome: 'replied', reply });
const refusal = (status: number, reason: string, run = 'r1'): ProbeAnswer =>
  replied(`HTTP/1.1 ${status} Said\r\nSallyport-Reason: ${reason}\r\n\r\n{"run":"${run}"}`);
const established = replied('HTTP/1.1 200 Connection Established\r\n\r\n');
const kernelError: ProbeAnswer = { id: 'x', outcome: 'error', error: 'ECONNREFUSED' };
const connected: ProbeAnswer = { id: 'x', outcome: 'connected' };

const place: Place = {
  names: namesOf('r1'),
  slot: slotAt(7),
  ports: [3128, 5432, 53],
  datagrams: [53],
  services: [],
  directory: '/nowhere',
};
const probes = probesOf(place, 4000);
const sightings = probes.map((probe): Sighting => {
  const ahead = probe.packet.ports.length;
  const isControl = probe.meets === null;
  return { probe, tried: true, error: '', ahead, past: isControl ? ahead : 0, rose: isControl ? 0 : ahead };
});

const door = (id: string, expected: string | null, answer: ProbeAnswer = replied('')): DoorSignal => ({
  id,
  what: id,
  expected,
  said: expected ?? '',
  answer,
});
const doors: readonly DoorSignal[] = [
  door('dns-allowed-udp', 'noerror 10.219.0.29'),
  door('dns-denied-udp', 'nxdomain'),
  door('transparent-tls', 'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED', kernelError),
  door('transparent-443', null, refusal(403, 'no_rule_matched')),
];

/** What a whole boundary shows. */
const whole: GateSignals = {
  run: 'r1',
  canary: { host: 'gate-r1.invalid', answer: refusal(403, 'no_rule_matched') },
  allowed: { target: 'a.example:443', answer: established, isAdmitted: false },
  doors,
  heard: { asked: 0, control: 1 },
  unrouted: waysOf(place).map(({ id, what }) => ({ id, what, said: 'ENETUNREACH' })),
  rounds: { sightings, strays: 0, surplus: [] },
  listenerTouches: 1,
  frames: {
    sights: [
      { id: 'arp', what: 'ARP', isControl: false, tried: true, ahead: 1, past: 0, answers: 0 },
      { id: 'arp-proxy', what: 'ARP (control)', isControl: true, tried: true, ahead: 1, past: 1, answers: 1 },
    ],
    rose: 1,
    above: [],
  },
  left: { routes: [], isIpv6Off: true },
  isQuiet: true,
};

/** The ids of the probes that fail; a refusal names every one of them. */
function failedProbes(signals: GateSignals): readonly string[] {
  const results = judgeGate(signals);
  const failed = results.filter(({ verdict }) => verdict === 'fail');
  try {
    refuseUnlessPassed(results);
    return [];
  } catch (error) {
    if (!(error instanceof RunRefused && error.exitCode === 69 && error.help !== '')) throw error;
    const lines = [...error.message.matchAll(/^ {2}FAIL {2}/gm)];
    return lines.length === failed.length ? failed.map(({ id }) => id) : ['the table is not whole'];
  }
}

const canary = (answer: ProbeAnswer | undefined): GateSignals => ({
  ...whole,
  canary: { ...whole.canary, answer },
});
const allowed = (answer: ProbeAnswer | undefined, isAdmitted = false): GateSignals => ({
  ...whole,
  allowed: { target: 'a.example:443', answer, isAdmitted },
});
const seen = (id: string, change: Partial<Sighting>): GateSignals => ({
  ...whole,
  rounds: {
    ...whole.rounds,
    sightings: sightings.map((one) => (one.probe.id === id ? { ...one, ...change } : one)),
  },
});

t.test('a whole boundary passes: every probe was tried and every one is counted', async (t) => {
  const results = judgeGate(whole);
  t.ok(results.every(({ verdict }) => verdict === 'pass'));
  t.equal(probeCount(results), `${results.length} probes passed`);
  t.ok(results.length > 40, `${results.length} probes`);
  t.equal(new Set(results.map(({ id }) => id)).size, results.length, 'each by a name of its own');
});

t.test('the table has a probe for each class of the fence, and each kind of way out', async (t) => {
  const met = new Set(probes.map(({ meets }) => meets));
  t.same(
    packetClasses.filter((name) => !met.has(name)),
    [],
  );
  t.equal(new Set(probes.map(({ packet }) => packet.protocol)).size, 14, 'protocols');
  const controls = probes.filter(({ meets }) => meets === null).map(({ hook }) => hook);
  t.same(
    new Set(controls),
    new Set(['prerouting', 'input', 'forward', 'postrouting']),
    'a control that must pass',
  );
});

t.test(
  'no probe aims at a port that the run has opened, and none leaves the addresses of nobody',
  async (t) => {
    const open = { ...place, ports: [3128, 1, 22, 53, 853] };
    const wrong = probesOf(open, 4000).filter(
      ({ meets, family, packet, behind }) =>
        meets !== null &&
        family === 4 &&
        { ...packet, ...behind }.protocol === 'tcp' &&
        packet.to === place.slot.proxy &&
        packet.from === undefined &&
        Object.keys(behind ?? { ports: 1 }).join() === 'ports' &&
        { ...packet, ...behind }.ports.some((port) => open.ports.includes(port)),
    );
    t.same(
      wrong.map(({ id }) => id),
      [],
    );
  },
);

t.test('the addresses that are lent are those of no other run', async (t) => {
  const all = [0, 1, 2, 2047, 2048, 4095].flatMap((number) => {
    const { six, ...four } = lentTo(slotAt(number));
    return [...Object.values(four), ...Object.values(six)];
  });
  t.equal(new Set(all).size, all.length);
  t.ok(all.every((address) => /^(198\.1[89]\.|2001:db8:)/.test(address)));
});

t.test('each false answer about the name that no policy lists refuses the run with 69', async (t) => {
  const both = ['proxy-reachable', 'denied-name'];
  const one = ['denied-name'];
  t.same(failedProbes(canary(established)), one, '200: it was let out');
  t.same(failedProbes(canary(refusal(403, 'no_rule_matched', 'r2'))), one, 'signed by another run');
  t.same(failedProbes(canary(refusal(403, 'no_rule_matched', ''))), one, 'signed by nobody');
  t.same(failedProbes(canary(refusal(403, 'principal_unknown'))), one, 'refused for another reason');
  t.same(failedProbes(canary(refusal(502, 'dns_failed'))), one, 'failed after a verdict of allow');
  t.same(failedProbes(canary(refusal(200, 'no_rule_matched'))), one, 'the right words with 200');
  t.same(failedProbes(canary(replied('HTTP/1.1 403 Forbidden\r\n\r\n"run":"r1"'))), one, 'a 403 of others');
  t.same(failedProbes(canary(replied('SSH-2.0-OpenSSH'))), one, 'an answer that is not HTTP');
  t.same(failedProbes(canary(connected)), both, 'a connection without a word');
  t.same(failedProbes(canary(kernelError)), both, 'no proxy');
  t.same(failedProbes(canary(undefined)), both, 'no answer');
});

t.test('each false word of a door that needs no variable refuses the run with 69', async (t) => {
  const told = (id: string, change: Partial<DoorSignal>): GateSignals => ({
    ...whole,
    doors: doors.map((one) => (one.id === id ? { ...one, ...change } : one)),
  });
  for (const { id, expected } of doors.filter((one) => one.expected !== null)) {
    t.same(failedProbes(told(id, { said: 'noerror 192.0.2.1' })), [id], `${id}: not ${expected}`);
    t.same(failedProbes(told(id, { said: '', answer: undefined })), [id], `${id}: no answer`);
    t.same(failedProbes(told(id, { said: '', answer: connected })), [id], `${id}: let in`);
  }
  const plain = 'transparent-443';
  t.same(failedProbes(told(plain, { answer: refusal(403, 'no_rule_matched', 'r2') })), [plain]);
  t.same(failedProbes(told(plain, { answer: refusal(502, 'dns_failed') })), [plain]);
  t.same(failedProbes(told(plain, { answer: undefined })), [plain]);
  t.same(failedProbes({ ...whole, heard: { asked: 1, control: 1 } }), ['dns-nobody-asked'], 'asked on');
  t.same(failedProbes({ ...whole, heard: { asked: 0, control: 0 } }), ['dns-nobody-asked'], 'deaf');
  t.same(failedProbes({ ...whole, doors: [], heard: null }), [], 'a wiring without them');
  const first = judgeGate(told('dns-allowed-udp', { said: null })).find(({ id }) => id === 'dns-allowed-udp');
  t.equal(first?.verdict, 'not_tried', 'no name to ask for');
});

t.test('an answer of DNS is read for what it says, and for nothing that it does not', async (t) => {
  const question = questionFor('a.example', 'a');
  const answer = (change: (bytes: Buffer) => void, record = ''): Buffer => {
    const bytes = Buffer.concat([question, Buffer.from(record, 'hex')]);
    bytes[2] = 0x81;
    change(bytes);
    return bytes;
  };
  const record = 'c00c0001000100000005000410db001d';
  const has = (records: number) => (bytes: Buffer) => void bytes.writeUInt16BE(records, 6);
  t.equal(readAnswer(question, answer(has(1), record)), 'noerror 16.219.0.29');
  t.equal(
    readAnswer(
      question,
      answer((bytes) => void (bytes[3] = 0x83)),
    ),
    'nxdomain',
  );
  t.equal(
    readAnswer(
      question,
      answer((bytes) => void (bytes[3] = 5)),
    ),
    'refused',
  );
  t.equal(
    readAnswer(
      question,
      answer((bytes) => void (bytes[3] = 2)),
    ),
    'code 2',
  );
  t.equal(readAnswer(question, answer(has(2), record + record)), 'noerror with 2 records');
  t.equal(readAnswer(question, answer(has(1), record + '00')), 'noerror with 1 records');
  const none = 'something that is no answer to it';
  for (const wrong of [
    question,
    Buffer.alloc(0),
    answer((bytes) => void (bytes[0] = 0)),
    answer((bytes) => void (bytes[13] = 98)),
  ])
    t.equal(readAnswer(question, wrong), none);
});

t.test('an allowed name must be admitted, by its answer or by the table of tunnels', async (t) => {
  const one = ['allowed-name'];
  t.same(failedProbes(allowed(undefined, true)), [], 'on its way');
  t.same(failedProbes(allowed(refusal(502, 'dns_failed'))), [], 'the world failed, the proxy said yes');
  t.same(failedProbes(allowed(undefined)), one, 'no answer');
  t.same(failedProbes(allowed(refusal(403, 'no_rule_matched'))), one, 'denied');
  t.same(failedProbes(allowed(refusal(403, 'no_rule_matched'), true)), one, 'denied after all');
  t.same(failedProbes(allowed(refusal(503, 'audit_unavailable'))), one, 'no audit');
  t.same(failedProbes(allowed(kernelError)), one, 'no proxy');
});

t.test(
  'every probe refuses the run when its counter is silent, when it passes, or when it never came',
  async (t) => {
    for (const { probe, ahead } of sightings) {
      const one = [probe.id];
      t.same(failedProbes(seen(probe.id, { ahead: ahead - 1 })), one, `${probe.id}: one was not sent`);
      t.same(failedProbes(seen(probe.id, { error: 'EPERM' })), one, `${probe.id}: could not be sent`);
      if (probe.meets === null) {
        t.same(failedProbes(seen(probe.id, { past: ahead - 1 })), one, `${probe.id}: a control was stopped`);
        continue;
      }
      t.same(failedProbes(seen(probe.id, { rose: ahead - 1 })), one, `${probe.id}: counter silent`);
      t.same(failedProbes(seen(probe.id, { past: 1 })), one, `${probe.id}: got through`);
    }
    const surplus = [{ name: 'udp', more: 1 } as const];
    t.same(failedProbes({ ...whole, rounds: { ...whole.rounds, strays: 1 } }), ['nothing-else']);
    t.same(failedProbes({ ...whole, rounds: { ...whole.rounds, surplus } }), ['counted-once']);
  },
);

t.test('a way without a route must be refused by the kernel before a packet is made', async (t) => {
  for (const { id } of whole.unrouted) {
    const said = (word: string): GateSignals => ({
      ...whole,
      unrouted: whole.unrouted.map((one) => (one.id === id ? { ...one, said: word } : one)),
    });
    t.same(failedProbes(said('')), [id], 'the kernel said nothing');
    t.same(failedProbes(said('sent')), [id], 'it was sent');
    // A packet that was refused by somebody has been sent.
    t.same(failedProbes(said('ECONNREFUSED')), [id], 'somebody answered');
  }
});

t.test('a frame that somebody takes up, or a link that is part of another, refuses the run', async (t) => {
  const frames = (id: string, change: object, above: readonly string[] = []): GateSignals => ({
    ...whole,
    frames: {
      ...whole.frames,
      sights: whole.frames.sights.map((one) => (one.id === id ? { ...one, ...change } : one)),
      above,
    },
  });
  t.same(failedProbes(frames('arp', { ahead: 0 })), ['arp']);
  t.same(failedProbes(frames('arp', { past: 1 })), ['arp'], 'it passed');
  t.same(failedProbes(frames('arp', { answers: 1 })), ['arp']);
  t.same(failedProbes(frames('arp', {}, ['br0'])), ['arp']);
  t.same(failedProbes({ ...whole, frames: { ...whole.frames, rose: 0 } }), ['arp'], 'it was not counted');
  for (const change of [{ ahead: 0 }, { past: 0 }, { answers: 0 }])
    t.same(failedProbes(frames('arp-proxy', change)), ['arp-proxy'], 'the control must pass');
});

t.test('a host listener that was heard, or that is deaf to the host itself, proves nothing', async (t) => {
  t.same(failedProbes({ ...whole, listenerTouches: 2 }), ['host-listener']);
  t.same(failedProbes({ ...whole, listenerTouches: 0 }), ['host-listener']);
});

t.test('a route or IPv6 that is still there after the probes refuses the run', async (t) => {
  const one = ['nothing-left'];
  t.same(failedProbes({ ...whole, left: { routes: ['default via 10.219.0.1'], isIpv6Off: true } }), one);
  t.same(failedProbes({ ...whole, left: { routes: [], isIpv6Off: false } }), one);
});

t.test('what was not tried is not counted as passed', async (t) => {
  const count = judgeGate(whole).length;
  const none = judgeGate({ ...whole, allowed: null });
  t.equal(probeCount(none), `${count - 1} probes passed, 1 not tried`);
  t.match(none, [{ id: 'allowed-name', verdict: 'not_tried', signal: /^not tried: / }]);
  const noSix = judgeGate(seen('six-tcp', { tried: false, ahead: 0, rose: 0 }));
  t.equal(probeCount(noSix), `${count - 1} probes passed, 1 not tried`);
  t.equal(probeCount(judgeGate({ ...whole, isQuiet: false })), `${count - 1} probes passed, 1 not tried`);
  t.equal(probeCount(judgeGate(seen('mdns', { past: 1 }))), `${count - 1} probes passed, 1 FAILED`);
});

const known = {
  run: 'r1',
  occasion: 'launch',
  time: '2026-01-02T03:04:05.678Z',
  seconds: 0.5,
  probes: judgeGate(whole),
  policy: 'a'.repeat(64),
  ruleset: 'b'.repeat(64),
} as const;

t.test(
  'the record is what its schema says, and its digest changes with every word of it',
  { skip: needs(t, ['nft']) },
  async (t) => {
    const record = await makeRecord(known);
    const fits = new Ajv({ allErrors: true, strict: true }).compile(schema);
    t.ok(fits(record), JSON.stringify(fits.errors));
    t.equal(record.result, 'passed');
    t.equal(record.digest, digestOf(record));
    t.equal(
      digestOf(Object.fromEntries(Object.entries(record).toReversed()) as typeof record),
      record.digest,
    );
    for (const change of [
      { run: 'r2' },
      { result: 'failed' },
      { probes: [] },
      { ruleset: 'c'.repeat(64) },
    ] as const)
      t.not(digestOf({ ...record, ...change }), record.digest, JSON.stringify(change));
    const failed = await makeRecord({ ...known, probes: judgeGate(seen('mdns', { past: 1 })) });
    t.equal(failed.result, 'failed');
    t.ok(fits(failed));
  },
);

t.test(
  'a record is not written through a link that somebody has put there',
  { skip: needs(t, ['nft']) },
  async (t) => {
    const dir = t.testdir({ other: 'other' });
    const file = join(dir, 'gate.json');
    symlinkSync(join(dir, 'other'), `${file}.draft`);
    symlinkSync(join(dir, 'other'), file);
    await writeRecord(file, await makeRecord(known));
    t.equal(readFileSync(join(dir, 'other'), 'utf8'), 'other');
    t.match(JSON.parse(readFileSync(file, 'utf8')), { run: 'r1' });
    writeFileSync(`${file}.draft`, 'left by a killed one');
    await writeRecord(file, await makeRecord(known));
  },
);
