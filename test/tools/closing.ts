// Prints the plain closing line, `N passed, N failed, N skipped`, from the TAP files of the last tap run. Not a reporter: tap has printed the details.
import { globSync, readFileSync } from 'node:fs';

const counts = { passed: 0, failed: 0, skipped: 0 };
for (const file of globSync('.tap/test-results/**/*.tap')) {
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (/^(not )?ok \d+.*# (SKIP|TODO)/i.test(line)) counts.skipped += 1;
    else if (/^ok \d+/.test(line)) counts.passed += 1;
    else if (/^not ok \d+/.test(line)) counts.failed += 1;
  }
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
