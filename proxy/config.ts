// Puts the settings of a proxy together and judges them as a whole. Each one by itself is read by config-readers.ts.
import { parseServiceFlag, type RunService } from '../policy/index.ts';
import { isWildcard, splitEndpoint } from './config-network.ts';
import { ConfigError, type ConfigProblem, type Given, readTold } from './config-sources.ts';
import type { Told } from './config-table.ts';
import type { ProxySettings } from './config-types.ts';
import { formatEndpoint } from './endpoint.ts';
import { hostServiceName } from './service-places.ts';

export { ConfigError, type Given } from './config-sources.ts';
export type { Enforcement, PrincipalBinding, ProxySettings } from './config-types.ts';

/** Puts the settings together: flags over environment over file over defaults. Throws ConfigError with all problems. */
export function loadSettings(given: Given): ProxySettings {
  const { told } = readTold(given);
  const { policy, hostPorts } = told;
  const problems = [
    ...policyProblems(policy),
    ...wildcardProblems(told),
    ...serviceProblems(told),
    ...parentProblems(told),
    ...dnsProblems(told),
  ];
  if (policy === null || problems.length > 0) throw new ConfigError(problems);
  return { ...told, policy, services: [...told.services, ...hostPorts.map(hostService)] };
}

function policyProblems(policy: string | null): ConfigProblem[] {
  if (policy !== null) return [];
  return [{ message: 'no policy was given', help: 'give --policy FILE; a file with `{}` denies everything' }];
}

function wildcardProblems({
  allowWildcard,
  listen,
  serviceListen,
  serviceAt,
  metrics,
  transparent,
}: Told): ConfigProblem[] {
  if (allowWildcard) return [];
  const one = [serviceListen, metrics].filter((at) => at !== null);
  const own = serviceAt.map(({ address }) => address);
  const asked = [...listen, ...transparent, ...one, ...own].filter(isWildcard);
  return asked.map((at) => ({
    message: `\`${at}\` would listen on every network of this machine`,
    help: 'name one address; if every network is meant, add --allow-wildcard-bind',
  }));
}

function serviceProblems({ services, hostPorts, serviceListen, serviceAt }: Told): ConfigProblem[] {
  const placed = serviceAt.map(({ name }) => name);
  const twice = placed.filter((name, i) => placed.indexOf(name) < i);
  const names = [...services.map(({ name }) => name), ...hostPorts.map(hostServiceName)];
  const isServed = serviceListen !== null || names.every((name) => placed.includes(name));
  const help = 'give --service-listen ADDR, an address of this machine that clients can reach';
  return [
    ...(isServed ? [] : [{ message: 'services were given, but no address to serve them on', help }]),
    ...twice.map((name) => ({
      message: `service \`${name}\` is given two addresses`,
      help: 'give --service-at once for each service',
    })),
  ];
}

function parentProblems({ parent, parentResolvesNames }: Told): ConfigProblem[] {
  if (parent !== null || !parentResolvesNames) return [];
  return [
    { message: 'there is no parent that could resolve names', help: 'give --parent too, or leave it out' },
  ];
}

/** What is answered is the address that was asked, so it must be one; and a name that leads to a closed port helps nobody. */
function dnsProblems({ dnsListen, transparent, workers }: Told): ConfigProblem[] {
  const addresses = new Set(transparent.map((at) => splitEndpoint(at).host));
  const wide = dnsListen.filter(isWildcard).map((at) => ({
    message: `\`${at}\` is no address to answer with`,
    help: 'give --dns-listen one address of this machine',
  }));
  const alone = dnsListen.filter((at) => !isWildcard(at) && !addresses.has(splitEndpoint(at).host));
  const many = dnsListen.length > 0 && workers !== 1;
  return [
    ...(many
      ? [{ message: 'DNS is answered by one process only', help: 'give --workers 1, or no --dns-listen' }]
      : []),
    ...wide,
    ...alone.map((at) => ({
      message: `names would lead to \`${at}\`, and nothing is served at that address`,
      help: `add --transparent ${formatEndpoint(splitEndpoint(at).host, 443)}`,
    })),
  ];
}

/** A loopback port of this machine, under a name of its own. */
export function hostService(port: number): RunService {
  return parseServiceFlag(`${hostServiceName(port)}=127.0.0.1:${port}`);
}
