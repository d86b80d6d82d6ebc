// A sandbox as seen by who is in it: an attacker that never stops, a client that wants to be served, tunnels that are to last.
import { join } from 'node:path';
import type { Netns, Running } from '../../helpers/netns.ts';
import { aims } from './grounds.ts';
import { until } from './until.ts';

interface Tearable {
  teardown(handler: () => void | Promise<void>): void;
}

export interface CellSpec {
  readonly host: Netns;
  /** The host's end of its link. */
  readonly link: string;
  /** Words that run what follows inside. */
  readonly inside: readonly string[];
  readonly address: string;
  readonly proxy: string;
  /** An address of the outside. */
  readonly outside: string;
}

/** A tunnel through the service `db`, which echoes. */
export interface OpenTunnel {
  /** Sends a line and waits for it. */
  readonly echoes: () => Promise<boolean>;
  /** Resolves when no tunnel of this sandbox is open any more. */
  readonly ended: () => Promise<void>;
}

export interface Cell extends CellSpec {
  /** Starts the attacker; again in a namespace that was made anew. */
  readonly attack: () => Promise<void>;
  /** For an allowed name: curl's exit status, the proxy's answer and the origin's. */
  readonly ask: () => Promise<string>;
  readonly tunnel: () => Promise<OpenTunnel>;
  /** Opens `count` tunnels one after the other: how many were opened, and what closes them. */
  readonly tunnels: (
    count: number,
  ) => Promise<{ readonly open: number; readonly close: () => Promise<void> }>;
  /** A client that has sent half of its request; the rest of it, and the first line of the answer. */
  readonly half: () => Promise<() => Promise<string>>;
  /** IPv6 on the host's end of the link: where it is off, it is not the fence that stops it. */
  readonly ipv6: (state: 'on' | 'off') => Promise<void>;
}

const files = import.meta.dirname;

export function makeCell(t: Tearable, spec: CellSpec): Cell {
  const { host, link, inside, address, proxy, outside } = spec;
  const start = (argv: readonly string[]): Running => {
    const running = host.start([...inside, ...argv]);
    t.teardown(async () => await running.stop());
    return running;
  };
  return {
    ...spec,
    async attack() {
      const shown = await host.must(['ip', '-o', 'link', 'show', 'dev', link]);
      const mac = /ether ([0-9a-f:]{17})/.exec(shown)?.[1] ?? '';
      const words = ['eth0', mac, address, proxy, outside, aims.near, aims.host];
      await start(['perl', join(files, 'flood.pl'), ...words]).line((line) => line === 'sending');
    },
    async ask() {
      const argv = ['curl', '-sSk', '-o', '/dev/null', '--max-time', '3', '-x', `http://${proxy}:3128`];
      const format = ['-w', '%{http_connect} %{http_code}', 'https://good.test'];
      const { code, stdout } = await host.run([...inside, ...argv, ...format]);
      return `${code ?? 'killed'} ${stdout}`;
    },
    async tunnel() {
      const client = start(['nc', proxy, '5432']);
      await client.line((line) => line === 'service');
      let count = 0;
      return {
        async echoes() {
          const word = `echo ${(count += 1)}`;
          client.child.stdin.write(`${word}\n`);
          return (await client.line((line) => line === word)) === word;
        },
        ended: async () =>
          await until(async () => !/ESTAB/.test((await host.run([...inside, 'ss', '-Htn'])).stdout)),
      };
    },
    async tunnels(count) {
      const client = start(['perl', join(files, 'tunnels.pl'), proxy, '5432', String(count)]);
      await client.line((line) => line === 'done');
      return {
        open: client.lines.filter((line) => line === 'open').length,
        async close() {
          client.child.stdin.write('\n');
          await client.line((line) => line === 'gone');
        },
      };
    },
    async half() {
      const client = start(['nc', proxy, '3128']);
      client.child.stdin.write('CONNECT good.test:443 HTTP/1.1\r\n');
      await until(async () => /ESTAB/.test((await host.run([...inside, 'ss', '-Htn'])).stdout));
      return async () => {
        client.child.stdin.write('Host: good.test:443\r\n\r\n');
        return await client.line((line) => line.startsWith('HTTP/'));
      };
    },
    ipv6: async (state) =>
      void (await host.must([
        'sysctl',
        '-qw',
        `net.ipv6.conf.${link}.disable_ipv6=${state === 'on' ? 0 : 1}`,
      ])),
  };
}
