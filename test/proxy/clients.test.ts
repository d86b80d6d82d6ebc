// Clients that people have, unmodified, through the CONNECT door: what is allowed works, what is refused tells them why. Not a test of the gates.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { get as getPlain, type IncomingMessage } from 'node:http';
import { createServer, get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { HttpProxyAgent } from 'http-proxy-agent';
import { HttpsProxyAgent } from 'https-proxy-agent';
import t from 'tap';
import { ProxyAgent, request } from 'undici';
import { needs } from '../helpers/needs.ts';
import { makeCertificate } from '../helpers/origin.ts';
import { allowing, startTestProxy } from '../helpers/proxy.ts';

const run = promisify(execFile);

t.test('clients of every kind', async (t) => {
  const { key, certificate: ca } = makeCertificate(['good.test']);
  const origin = createServer({ key, cert: ca }, (_, response) => response.end('from the origin'));
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  t.teardown(() => origin.close());
  const { port } = origin.address() as AddressInfo;
  const proxy = await startTestProxy(t, { policy: allowing('good.test'), origin: port });
  const url = `http://127.0.0.1:${proxy.port}`;
  const socksUrl = `socks5h://127.0.0.1:${proxy.port}`;

  t.test('https-proxy-agent reaches an allowed host and is told 403 for another', async (t) => {
    const agent = new HttpsProxyAgent(url);
    const asked = get('https://good.test/', { agent, ca });
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    t.equal(await text(answer), 'from the origin');
    const refused = get('https://evil.test/', { agent, ca });
    const [reply] = (await once(refused, 'response')) as [IncomingMessage];
    t.equal(reply.statusCode, 403);
    t.equal(reply.headers['sallyport-reason'], 'no_rule_matched');
    t.match(await text(reply), /"howToRequest"/);
    agent.destroy();
  });

  t.test('http-proxy-agent, which asks for plain HTTP, is told 403 for a rule that is for TLS', async (t) => {
    const asked = getPlain('http://good.test/', { agent: new HttpProxyAgent(url) });
    const [reply] = (await once(asked, 'response')) as [IncomingMessage];
    t.equal(reply.statusCode, 403);
    t.match(await text(reply), /port_not_allowed/);
  });

  t.test("undici's ProxyAgent reaches an allowed host and fails on another", async (t) => {
    const dispatcher = new ProxyAgent({ uri: url, requestTls: { ca } });
    t.equal((await request('https://good.test/', { dispatcher })).statusCode, 200);
    await t.rejects(request('https://evil.test/', { dispatcher }));
    await dispatcher.destroy();
  });

  t.test('curl speaks SOCKS5 on the same port', { skip: needs(t, ['curl']) }, async (t) => {
    const file = join(t.testdir({ 'ca.pem': ca }), 'ca.pem');
    const curl = async (host: string) =>
      await run('curl', ['-sS', '--cacert', file, '--noproxy', '', '-x', socksUrl, `https://${host}/`]);
    t.equal((await curl('good.test')).stdout, 'from the origin');
    const refused = await curl('evil.test').catch((error: unknown) => error);
    t.match(refused, { code: 97, stderr: /\(2\)/u }, 'the reply says: not allowed by the rules');
  });

  t.test('curl says what the proxy said', { skip: needs(t, ['curl']) }, async (t) => {
    const file = join(t.testdir({ 'ca.pem': ca }), 'ca.pem');
    const curl = async (host: string) =>
      await run('curl', ['-sS', '--cacert', file, '--noproxy', '', '-x', url, `https://${host}/`]);
    t.equal((await curl('good.test')).stdout, 'from the origin');
    const refused = await curl('evil.test').catch((error: unknown) => error);
    t.match(refused, { stderr: /403/ });
  });
});
