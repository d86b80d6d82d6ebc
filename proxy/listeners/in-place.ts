// A place for a client that has not asked yet: whoever makes a client wait for its request takes one. Reads nothing itself.
import type { Arrival, Deps, Inbound } from '../types.ts';

/** What `receive` finds; without a place the client is turned away unread. */
export async function inPlace(
  { principal }: Arrival,
  waiting: Deps['waiting'],
  receive: () => Promise<Inbound | undefined>,
  unread: () => Inbound,
): Promise<Inbound | undefined> {
  const place = waiting.acquire(principal?.name ?? '');
  if (!place.ok) return { ...unread(), turnedAway: place.reason };
  try {
    return await receive();
  } finally {
    place.release();
  }
}
