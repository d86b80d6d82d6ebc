// Turns the addresses written in a test into Address values. Judges nothing.
import { parseAddress, type Address } from '../../policy/index.ts';

/** The address of `text`; a test that writes anything else is broken. */
export function addressOf(text: string): Address {
  const address = parseAddress(text);
  if (address === undefined) throw new Error(`\`${text}\` in a test is no address`);
  return address;
}
