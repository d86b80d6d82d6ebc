// How the command finds its way out: told by proxy variables, led by DNS to ports that take TLS and plain HTTP as they come, or both. Opens nothing.
import { RunRefused } from './refusal.ts';

/** `env`: variables only. `transparent`: DNS and transparent ports only. */
export type Wiring = (typeof wirings)[number];

export const wirings = ['env', 'transparent', 'both'] as const;

/** Ports of the proxy's address besides its own, the services' and the host's. */
export interface WiredPorts {
  /** Where TLS and plain HTTP are taken as they come; empty without. */
  readonly transparent: readonly number[];
  /** Where names are answered, over UDP and TCP; empty without. */
  readonly dns: readonly number[];
}

const [httpPort, httpsPort, dnsPort] = [80, 443, 53];

/** One port for each that a rule allows, and always 443 and 80, so that whoever asks for something else is told no instead of nothing. */
export function wiredPorts(wiring: Wiring, rulePorts: readonly number[], proxyPort: number): WiredPorts {
  if (wiring === 'env') return { transparent: [], dns: [] };
  const wanted = new Set([httpsPort, httpPort, ...rulePorts]);
  return {
    transparent: [...wanted].filter((port) => port !== dnsPort && port !== proxyPort),
    dns: [dnsPort],
  };
}

/** One of the words. Throws RunRefused (usage). */
export function readWiring(text: string): Wiring {
  const found = wirings.find((word) => word === text);
  if (found !== undefined) return found;
  throw new RunRefused('usage', '--wiring has no such word', `give one of: ${wirings.join(', ')}`);
}
