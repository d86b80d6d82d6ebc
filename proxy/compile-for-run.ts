// Checks a policy for a runner and hands it over in its canonical text. Starts nothing.
import {
  canonicalText,
  listReport,
  loadPolicy,
  parseServiceFlag,
  runPolicyTests,
  withServices,
} from '../policy/index.ts';
import { hostService } from './config.ts';

/** What a run brings besides its policy. */
export interface RunExtras {
  /** As given to `--service`. */
  readonly services: readonly string[];
  readonly hostPorts: readonly number[];
}

/** A policy as the proxy of a run will load it. */
export interface CompiledPolicy {
  readonly text: string;
  readonly digest: string;
  /** What `policy list` says of it, with what the run brings. Throws PolicyError when the two do not fit together. */
  list(extras: RunExtras): string;
}

/** The policy at `path` (.json or .nix): checked, its own tests run. Throws what is wrong with it. */
export async function compileForRun(path: string): Promise<CompiledPolicy> {
  const policy = await loadPolicy(path);
  const failed = runPolicyTests(policy).map(({ target, expect }) => `\`${target}\` should be ${expect}`);
  if (failed.length > 0) throw new Error(`its own tests fail: ${failed.join(', ')}`);
  return {
    text: canonicalText(policy.document),
    digest: policy.digest,
    list: ({ services, hostPorts }) =>
      listReport(withServices(policy, [...services.map(parseServiceFlag), ...hostPorts.map(hostService)]))
        .text,
  };
}
