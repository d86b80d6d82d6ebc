// A policy on its way from the parent to a worker: its canonical text, read again there, and held to its digest. Loads no file.
import {
  canonicalText,
  parsePolicy,
  withServices,
  type Policy,
  type RunService,
} from '../../policy/index.ts';

/** The document's own text: the services of the run are settings, which every worker has. */
export function textOfPolicy({ document }: Policy, services: readonly RunService[]): Uint8Array {
  const ofRun = new Set(services.map(({ name }) => name));
  const own = document.services.filter(({ name }) => !ofRun.has(name));
  return new TextEncoder().encode(canonicalText({ ...document, services: own }));
}

/** The same policy again. Rejects when it is another one: then a worker must not serve. */
export async function policyOfText(
  text: Uint8Array,
  services: readonly RunService[],
  digest: string,
): Promise<Policy> {
  const policy = withServices(parsePolicy(new TextDecoder().decode(text)), services);
  if (policy.digest !== digest)
    throw new Error(`bug: the policy came through as \`${policy.digest}\`, not as \`${digest}\``);
  return policy;
}
