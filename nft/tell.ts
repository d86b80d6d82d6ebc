// Tells a proxy what became of the fence, over its admin socket. One question, no more: the proxy's own client is in another folder.
import { request } from 'node:http';
import type { FenceReport } from './watch-look.ts';

const timeoutMs = 5000;

/** Puts `report` to the proxy whose admin socket is at `socketPath`. Rejects when it is not taken within 5 s. */
export async function tellProxy(socketPath: string, report: FenceReport): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const options = { socketPath, path: '/fence', method: 'PUT', signal: AbortSignal.timeout(timeoutMs) };
  const headers = { 'content-type': 'application/json', connection: 'close' };
  const call = request({ ...options, headers }, (answer) => {
    answer.on('error', reject).on('end', () => {
      if (answer.statusCode === 200) resolve();
      else reject(new Error(`the proxy answered ${answer.statusCode ?? 'nothing'}`));
    });
    answer.resume();
  });
  call.on('error', reject);
  call.end(JSON.stringify(report));
  await promise;
}
