// From the bytes of a policy file to a policy that may come into force: decoded, checked, tested by its own tests, the run's services
// added. The same in the thread of the proxy and in one of its own. Reads no file.
import {
  decodePolicy,
  parsePolicy,
  PolicyError,
  runPolicyTests,
  withServices,
  type Policy,
  type RunService,
} from '../policy/index.ts';

/** What is to be checked. Plain data. */
export interface PolicyJob {
  /** For messages only. */
  readonly path: string;
  readonly bytes: Uint8Array;
  /** Services of the run, on top of the document's. */
  readonly services: readonly RunService[];
}

/** Throws Error with what is wrong. */
export function checkedPolicy({ path, bytes, services }: PolicyJob): Policy {
  const policy = parseNamed(path, decodePolicy(path, bytes));
  const failed = runPolicyTests(policy).map(({ target, expect }) => `\`${target}\` should be ${expect}`);
  if (failed.length > 0) throw new Error(`policy \`${path}\` fails its own tests: ${failed.join(', ')}`);
  return services.length === 0 ? policy : withServices(policy, services);
}

/** A list of problems does not say in which file they are. */
function parseNamed(path: string, text: string): Policy {
  try {
    return parsePolicy(text);
  } catch (cause) {
    if (!(cause instanceof PolicyError)) throw cause;
    throw new Error(`policy \`${path}\` cannot be used: ${cause.message}`, { cause });
  }
}
