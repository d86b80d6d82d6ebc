// Checks a policy for a runner and hands it over in its canonical text. Starts nothing.
import { canonicalText, loadPolicy, runPolicyTests } from '../policy/index.ts';

/** The policy at `path` (.json or .nix): checked, its own tests run. Throws what is wrong with it. */
export async function compileForRun(path: string): Promise<{ text: string; digest: string }> {
  const policy = await loadPolicy(path);
  const failed = runPolicyTests(policy).map(({ target, expect }) => `\`${target}\` should be ${expect}`);
  if (failed.length > 0) throw new Error(`its own tests fail: ${failed.join(', ')}`);
  return { text: canonicalText(policy.document), digest: policy.digest };
}
