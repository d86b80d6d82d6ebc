// Leaves with a tunnel open, as a process or as a worker: the relay's thread must not hold it back. Run by native.test.ts.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { isMainThread, parentPort } from 'node:worker_threads';
import { chooseRelay } from '../../../proxy/relay/index.ts';
import { openOver } from './joined.ts';

const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
await once(server, 'listening');
const near: Socket[] = [];
for (let i = 0; i < 2; i += 1) {
  connect((server.address() as AddressInfo).port, '127.0.0.1');
  near.push(((await once(server, 'connection')) as [Socket])[0]);
}
const [client, upstream] = near;
if (client === undefined || upstream === undefined) throw new Error('two connections were made');
openOver(chooseRelay('auto'), { client, upstream }, {});
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is for windows
parentPort?.postMessage('open');
if (isMainThread) process.exit();
