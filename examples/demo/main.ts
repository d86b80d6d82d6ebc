// `npm run demo`: puts an agent behind Sallyport in a small world of its own, lets it try the ways out, and prints what became of each. Exit 0 only if all went as it must.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { styleText } from 'node:util';
import { startAgent } from './agent.ts';
import { steps, type Evidence, type Step } from './steps.ts';
import { makeWorld, startOrigin, type Origin, type World } from './world.ts';

const bin = join(import.meta.dirname, '../../node_modules/.bin');
const [mode, ...command] = process.argv.slice(2);

if (process.getuid?.() !== 0) {
  console.error('the demo makes network namespaces, which needs root\nhelp: sudo npm run demo');
  process.exit(69);
}
process.exitCode = await inWorld(mode === 'exec' ? execute : demonstrate);

/** Builds the world, runs `story` in it, and takes it down whatever happens. */
async function inWorld(story: (world: World, origin: Origin) => Promise<number>): Promise<number> {
  const world = makeWorld();
  // From a terminal the story's own processes get the signal too; the world is taken down when they have ended.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
  const origin = await startOrigin(world);
  try {
    return await story(world, origin);
  } finally {
    origin.child.stdin?.end();
    world.close();
  }
}

async function demonstrate(world: World, origin: Origin): Promise<number> {
  console.log(
    'Nothing here leaves this machine: a TLS server in a network namespace of its own plays every host.',
  );
  console.log('An agent in a sandbox tries, as uid 1000 behind `sallyport run` and the shipped allowlist:\n');
  const agent = await startAgent(world, origin);
  let wrong = 0;
  for (const step of steps) wrong += report(step, await agent.try(step.command)) ? 0 : 1;
  const status = await agent.end();
  console.log(
    `\n${steps.length - wrong} of ${steps.length} as expected; sandbox ended with status ${status}`,
  );
  console.log('next: npx policy check github.com, npx sallyport run --help, README.md');
  return wrong === 0 && status === 0 ? 0 : 1;
}

function report(step: Step, evidence: Evidence): boolean {
  const happened = step.expected(evidence);
  const mark = happened === undefined ? styleText('red', '✗') : styleText('green', '✓');
  console.log(`${mark} ${step.says.padEnd(40)} ${happened ?? styleText('red', 'NOT as expected')}`);
  if (happened === undefined) console.log({ ...evidence, command: step.command });
  return happened !== undefined;
}

/** `npm run demo -- exec CMD...`: runs CMD on the demo's host, with its names in /etc/hosts and its authority among the trusted, then takes the world down. */
async function execute(world: World): Promise<number> {
  const trusted = '/etc/ssl/certs';
  const bundle = 'ca-certificates.crt';
  const certs = join(world.dir, 'certs');
  mkdirSync(certs);
  const both = [join(trusted, bundle), world.caFile].map((file) => readFileSync(file, 'utf8'));
  writeFileSync(join(certs, bundle), both.join(''));
  const setUp = 'mount --bind "$1" /etc/hosts && mount --bind "$2" "$3" && shift 3 && exec "$@"';
  const argv = command.length > 0 ? command : ['sh'];
  const inner = [
    'unshare',
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-c',
    setUp,
    'sh',
    world.hostsFile,
    certs,
    trusted,
  ];
  const [file, args] = world.onHost([...inner, 'env', `PATH=${bin}:/usr/sbin:/usr/bin:/sbin:/bin`, ...argv]);
  const child = spawn(file, args, { stdio: 'inherit' });
  process.on('SIGTERM', () => void child.kill('SIGTERM'));
  return await new Promise((resolve) =>
    child.once('exit', (code, signal) => resolve(signal === null ? (code ?? 1) : 1)),
  );
}
