// The audit file of a run: made for the proxy's user, and never somebody's file given away. The audit itself is the proxy's.
import { linkSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { prepareAudit } from '../../container/proxy-files.ts';
import { proxyId } from '../../container/proxy-part.ts';
import { needs } from '../helpers/needs.ts';

t.test('the audit file of a run', { skip: needs(t, ['root']) }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-audit-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const at = (name: string): string => join(folder, name);

  t.test('is made for the proxy, and used again by the next run of that name', async (t) => {
    await prepareAudit(at('new'), true);
    writeFileSync(at('new'), 'line\n');
    await prepareAudit(at('new'), true);
    const { uid, mode } = statSync(at('new'));
    t.same([uid, mode & 0o777, readFileSync(at('new'), 'utf8')], [proxyId, 0o600, 'line\n']);
  });

  t.test(
    'is never a link, a device, a file with another name, or one that belongs to somebody else',
    async (t) => {
      writeFileSync(at('secret'), 'of root', { mode: 0o600 });
      symlinkSync(at('secret'), at('link'));
      writeFileSync(at('twice'), '');
      linkSync(at('twice'), at('also'));
      for (const file of [at('secret'), at('link'), at('twice'), '/dev/null', folder, at('missing/audit')]) {
        await t.rejects(prepareAudit(file, true), { name: 'RunRefused', exitCode: 2 }, file);
      }
      t.equal(statSync(at('secret')).uid, 0);
      t.equal(statSync('/dev/null').uid, 0);
    },
  );
});
