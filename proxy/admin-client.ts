// Asks a proxy over its admin socket: for the runner and for tests. Knows how to ask, not what is answered.
import type { Client } from 'undici';

export interface AdminReply {
  readonly status: number;
  /** Parsed when it is JSON, else the text. */
  readonly body: unknown;
}

export interface AdminClient {
  get(path: string): Promise<AdminReply>;
  post(path: string, body?: unknown): Promise<AdminReply>;
  put(path: string, body: unknown): Promise<AdminReply>;
  close(): Promise<void>;
}

const defaultTimeoutMs = 5000;
const maxAnswerBytes = 33_554_432;

/** A client of the admin socket at `socketPath`. Each call takes at most `timeoutMs`. Rejects when nobody answers. The caller closes it. */
export async function adminClient(
  socketPath: string,
  timeoutMs: number = defaultTimeoutMs,
): Promise<AdminClient> {
  // 90 ms to load: not for commands that never ask.
  const { Client } = await import('undici');
  const client = new Client('http://localhost', {
    socketPath,
    connectTimeout: timeoutMs,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxResponseSize: maxAnswerBytes,
  });
  return {
    get: async (path) => await ask(client, 'GET', path, timeoutMs),
    post: async (path, body) => await ask(client, 'POST', path, timeoutMs, body),
    put: async (path, body) => await ask(client, 'PUT', path, timeoutMs, body),
    close: async () => await client.destroy(),
  };
}

async function ask(
  client: Client,
  method: 'GET' | 'POST' | 'PUT',
  path: string,
  timeoutMs: number,
  content?: unknown,
): Promise<AdminReply> {
  const body = content === undefined ? null : JSON.stringify(content);
  const headers = body === null ? {} : { 'content-type': 'application/json' };
  const signal = AbortSignal.timeout(timeoutMs);
  const answer = await client.request({ method, path, body, headers, signal });
  const isJson = answer.headers['content-type'] === 'application/json';
  return { status: answer.statusCode, body: isJson ? await answer.body.json() : await answer.body.text() };
}
