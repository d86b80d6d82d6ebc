// HTTP servers of other Nodes, as origins: what their parsers make of the bytes that reach them. Plain JavaScript, since an older Node reads no TypeScript.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Test } from 'tap';
import type { Seen } from './http-origin.ts';

/** A Node and the switches of its parser. */
export interface ParserAt {
  readonly name: string;
  readonly path: string;
  readonly args: readonly string[];
}

export interface Parser {
  readonly port: number;
  /** Requests since the last call, in order, and what its parser complained about. */
  take(): Promise<{ readonly seen: readonly Seen[]; readonly problems: readonly string[] }>;
}

const server = `
const http = require('node:http');
let [seen, problems] = [[], []];
const all = http.createServer((request, response) => {
  const fields = request.rawHeaders.map((part, i) => (i % 2 === 0 ? part.toLowerCase() : part));
  const one = { method: request.method, url: request.url, fields, body: '' };
  seen.push(one);
  request.setEncoding('latin1').on('data', (piece) => (one.body += piece)).on('end', () => response.end('seen'));
  request.on('error', () => {});
});
all.on('clientError', (error, socket) => { problems.push(error.code); socket.destroy(); });
all.listen(0, '127.0.0.1', () => process.stdout.write(all.address().port + '\\n'));
process.stdin.on('data', () => {
  process.stdout.write(JSON.stringify({ seen, problems }) + '\\n');
  [seen, problems] = [[], []];
}).on('end', () => process.exit());
`;

/** The Node of this test, as it is and as lenient as it can be, and the machine's own one where that is another. */
export function parsersHere(): readonly ParserAt[] {
  const path = process.execPath;
  const lenient = { name: `Node ${process.version}, lenient`, path, args: ['--insecure-http-parser'] };
  const others = ['/usr/bin/node', '/usr/local/bin/node'].filter((other) => existsSync(other));
  const versions = others.map((other) => ({
    name: `Node ${execFileSync(other, ['--version'], { encoding: 'utf8' }).trim()}`,
    path: other,
    args: [],
  }));
  const current = { name: `Node ${process.version}`, path, args: [] };
  return [current, lenient, ...versions.filter(({ name }) => name !== current.name)];
}

/** Starts it; it ends with `t`. */
export async function startParser(t: Test, { path, args }: ParserAt): Promise<Parser> {
  const child = spawn(path, [...args, '-e', server], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.stdin.end();
    await ended;
  });
  const next = async (): Promise<string> => {
    let text = '';
    while (!text.endsWith('\n')) text += String((await once(child.stdout, 'data'))[0]);
    return text;
  };
  return {
    port: Number(await next()),
    async take() {
      child.stdin.write('?');
      return JSON.parse(await next()) as Awaited<ReturnType<Parser['take']>>;
    },
  };
}
