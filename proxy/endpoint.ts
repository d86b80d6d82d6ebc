// `address:port` text, both ways, and what a socket says of its ends. Opens nothing.
import type { Socket } from 'node:net';
import { parseAddress } from '../policy/index.ts';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** IPv6 in brackets. A v4-mapped peer of a dual-stack socket is shown as the IPv4 address it is. */
export function formatEndpoint(address: string, port: number): string {
  const plain = unmapped(address);
  return plain.includes(':') ? `[${plain}]:${port}` : `${plain}:${port}`;
}

/** Reads `address:port` or `[address]:port`. Throws Error with help. */
export function parseEndpoint(text: string): Endpoint {
  const [, six, four, digits] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/u.exec(text) ?? [];
  const address = parseAddress(six ?? four ?? '');
  const port = Number(digits);
  if (address !== undefined && port <= 65_535) return { address: address.text, port };
  throw new Error(
    `\`${text}\` is not an address with a port\nhelp: give one such as 127.0.0.1:3128 or [::1]:3128`,
  );
}

/** `::ffff:192.0.2.1` as `192.0.2.1`; anything else as it is. */
export function unmapped(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/iu.exec(address)?.[1] ?? address;
}

/** True for 127.0.0.0/8 and ::1. */
export function isLoopback(address: string): boolean {
  const plain = unmapped(address);
  return plain === '::1' || /^127\.\d+\.\d+\.\d+$/u.test(plain);
}

/** Both ends of an accepted socket; empty text when it was reset before we could look. */
export function endsOf(socket: Socket): { local: Endpoint; peer: Endpoint } {
  return {
    local: { address: unmapped(socket.localAddress ?? ''), port: socket.localPort ?? 0 },
    peer: { address: unmapped(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 },
  };
}
