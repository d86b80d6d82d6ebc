// The names of one run: its id and what the kernel calls its parts. Strict grammar, so that a name is safe as a path, a link and a table.
import { randomBytes } from 'node:crypto';
import { RunRefused } from './refusal.ts';

/** Everything that is named after a run id. */
export interface RunNames {
  readonly id: string;
  /** Named network namespace, as `ip netns` shows it. */
  readonly netns: string;
  /** Path of that namespace for nsenter. */
  readonly netnsPath: string;
  /** Host end of the veth pair; at most 15 bytes (IFNAMSIZ). */
  readonly link: string;
  /** The sandbox end. */
  readonly peer: string;
  readonly table: string;
}

// 12 = IFNAMSIZ 16 - the ending NUL - `sp-`.
const idPattern = /^[a-z][a-z0-9]{0,11}$/;

/** True for a run id: a lower-case letter, then up to eleven lower-case letters or digits. */
export function isRunId(text: string): boolean {
  return idPattern.test(text);
}

/** The id a person chose, or a new one (`r` and six hex digits). Throws RunRefused on a bad one. */
export function chooseRunId(name: string | undefined): string {
  if (name === undefined) return `r${randomBytes(3).toString('hex')}`;
  if (isRunId(name)) return name;
  throw new RunRefused(
    'usage',
    `run name \`${printable(name)}\` is not a name`,
    'use a lower-case letter, then up to eleven lower-case letters or digits, such as `review1`',
  );
}

/** What the parts of run `id` are called. */
export function namesOf(id: string): RunNames {
  const netns = `sallyport-${id}`;
  return {
    id,
    netns,
    netnsPath: `/run/netns/${netns}`,
    link: `sp-${id}`,
    peer: 'eth0',
    table: `sallyport_${id}`,
  };
}

/** `text` as one short line of ASCII, for messages. */
export function printable(text: string): string {
  return text.slice(0, 60).replaceAll(/[^ -~]/g, '?');
}
