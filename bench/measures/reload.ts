// A large policy that is replaced under a running proxy: how long until the new one is in force, and how long one client had to wait meanwhile.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { runClient, startUpstream } from '../load/index.ts';
import { policyAllowing, sallyport, sallyportCommand } from '../peers/sallyport.ts';
import { startServer } from '../processes.ts';
import type { World } from '../world.ts';
import { checkClient } from './run.ts';
import type { OwnMeasure } from './types.ts';

// Outside the range that peers listen in.
const ports = { first: 2000, of: 500 };
const reloaded = /"time":(\d+),.*"msg":"policy reloaded"/u;
const limitMs = 30_000;

export const reload: OwnMeasure = {
  name: 'reload',
  title: 'Replacing a large policy',
  about: ({ rules }) =>
    `A running proxy gets another policy of ${rules.at(-1)} rules while one client opens tunnels one after another; a wait beyond the usual is the event loop being blocked.`,
  figures: () => [
    {
      id: 'reloadTime',
      title: 'from the new file to the new policy in force',
      unit: 'ms',
      digits: 0,
      better: 'less',
    },
    { id: 'reloadWait', title: 'longest wait of a client meanwhile', unit: 'ms', digits: 1, better: 'less' },
    { id: 'quietWait', title: 'longest wait without a reload', unit: 'ms', digits: 1, better: 'less' },
  ],
  async take(world, { rules, tunnelsMs: marginMs }, round) {
    const count = rules.at(-1) ?? 0;
    const folder = join(world.folder, `reload-${round}`);
    mkdirSync(folder);
    const port = ports.first + ((2 * round) % ports.of);
    const command = sallyportCommand(world, { port, folder }, policyOf(world, count, 'first'));
    const log = join(folder, 'log');
    const server = await startServer(sallyport, command.args, { log, port, env: command.env });
    try {
      const way = { to: `127.0.0.1:${port}`, host: world.host, connects: true };
      const longest = async (ms: number): Promise<number> => {
        await using upstream = await startUpstream(world.upstream);
        const client = await runClient('tunnels', way, { slots: 1, ms });
        await upstream.end();
        checkClient(client);
        return client.max / 1000;
      };
      await longest(marginMs);
      // Once unmeasured: how long it takes says for how long a client has to look.
      const usual = await replaceAndWait(command.policy, policyOf(world, count, 'second'), log);
      const quietWait = await longest(usual + marginMs);
      const waited = longest(usual + marginMs);
      const reloadTime = await replaceAndWait(command.policy, policyOf(world, count, 'third'), log);
      return { reloadTime, reloadWait: await waited, quietWait };
    } finally {
      await server.stop();
    }
  },
};

function policyOf({ host }: World, rules: number, word: string): string {
  return policyAllowing([host, ...Array.from({ length: rules - 1 }, (_, i) => `${word}-${i}.bench.test`)]);
}

/** Replaces the file in one step; ms until the proxy says that the policy is in force. */
async function replaceAndWait(path: string, policy: string, log: string): Promise<number> {
  const before = reloadsIn(log).length;
  writeFileSync(`${path}.new`, policy);
  renameSync(`${path}.new`, path);
  const began = Date.now();
  while (reloadsIn(log).length === before) {
    if (Date.now() - began > limitMs) throw new Error('the new policy did not come into force');
    await wait(5);
  }
  return (reloadsIn(log).at(-1) ?? 0) - began;
}

/** The times of the reloads that the log tells of, in ms since 1970. */
function reloadsIn(log: string): readonly number[] {
  const lines = readFileSync(log, 'utf8').split('\n');
  return lines
    .map((line) => Number(reloaded.exec(line)?.[1] ?? Number.NaN))
    .filter((time) => !Number.isNaN(time));
}
