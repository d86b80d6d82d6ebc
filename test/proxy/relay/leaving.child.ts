// Leaves with a tunnel open, as a process or as a worker: the relay's threads must not hold it back. Run by native.test.ts.
import { isMainThread, parentPort } from 'node:worker_threads';
import { chooseDataPlane } from '../../../proxy/data-plane.ts';
import { dialWith, listenWith } from '../../helpers/conn.ts';
import { openOver } from './joined.ts';

const { network, relay } = chooseDataPlane('auto');
const listening = await listenWith(network);
const [{ near: client }, { near: upstream }] = [await dialWith(listening), await dialWith(listening)];
openOver(relay, { client, upstream }, {});
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is for windows
parentPort?.postMessage('open');
if (isMainThread) process.exit();
