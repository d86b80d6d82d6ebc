// The JavaScript relay against the contract of all relays, and what only it can meet: it keeps the sockets.
import t from 'tap';
import { chooseDataPlane } from '../../../proxy/data-plane.ts';
import { openSockets } from '../../helpers/tcp.ts';
import { relayConformance } from './conformance.ts';
import { relayEndurance } from './endurance.ts';
import { closeFarEnds, join } from './joined.ts';

const plane = chooseDataPlane('javascript');
relayConformance(plane);
relayEndurance(plane);

t.test('sever while a FIN is being sent closes the descriptors', async (t) => {
  const before = openSockets();
  const joined = await join(t, plane);
  joined.near.upstream.toSocket().once('end', () => joined.handle.sever('draining'));
  joined.upstream.end();
  t.equal((await joined.handle.done).cause, 'severed');
  await closeFarEnds(joined);
  t.equal(openSockets(), before);
});

t.test('a side that somebody else destroys is a broken side', async (t) => {
  const joined = await join(t, plane);
  joined.near.client.close();
  t.equal((await joined.handle.done).cause, 'client_error');
});
