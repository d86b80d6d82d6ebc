// The one canonical spelling of a host name. Never resolves, and never repairs beyond case and one trailing dot.
// No RegExp and no URL parser: both are more lenient than the wire may be.

import { domainToASCII } from 'node:url';
import { printable } from './printable.ts';

declare const canonical: unique symbol;

/** Lower-case LDH labels, at least two, no trailing dot, last label not numeric. Only canonicalHost() makes one. */
export type CanonicalHost = string & { readonly [canonical]: true };

export interface HostProblem {
  readonly problem: string;
  readonly help: string;
}

const maxNameBytes = 253; // RFC 1035 §2.3.4, without the trailing dot
const maxLabelBytes = 63;

const hyphen = 0x2d;
const dot = 0x2e;

/** The canonical form of a host name, or what is wrong with it. RFC 1123 §2.1; Unicode and address literals are refused. */
export function canonicalHost(text: string): { readonly host: CanonicalHost } | HostProblem {
  if (isPlain(text)) return { host: text };
  // Before lower-casing: the Kelvin sign U+212A becomes an ASCII k.
  const byte = byteProblem(text);
  if (byte !== undefined) return byte;
  const name = (text.endsWith('.') ? text.slice(0, -1) : text).toLowerCase();
  return isCanonical(name) ? { host: name } : (shapeProblem(name, name.split('.')) ?? numericProblem);
}

// Most names arrive in their canonical form: one walk tells, and makes nothing. What it does not take is looked at in full.
function isPlain(text: string): text is CanonicalHost {
  if (text.length > maxNameBytes) return false;
  let start = 0;
  let before = dot;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === dot) {
      if (before === dot || before === hyphen || i - start > maxLabelBytes) return false;
      start = i + 1;
    } else if (code === hyphen ? before === dot : !isPlainByte(code)) return false;
    before = code;
  }
  if (before === dot || before === hyphen || text.length - start > maxLabelBytes) return false;
  // A last label that begins with a letter is no number in any spelling.
  return start > 0 && isLowerLetter(text.charCodeAt(start));
}

function isPlainByte(code: number): boolean {
  return isLowerLetter(code) || (code >= 0x30 && code <= 0x39);
}

function isLowerLetter(code: number): boolean {
  return code >= 0x61 && code <= 0x7a;
}

function isCanonical(name: string): name is CanonicalHost {
  return shapeProblem(name, name.split('.')) === undefined;
}

const numericProblem: HostProblem = {
  problem: 'a name whose last label is a number is an address, not a host name',
  help: 'give a host name; an address can only be reached as a named service',
};

function shapeProblem(name: string, labels: readonly string[]): HostProblem | undefined {
  if (name.length === 0) return { problem: 'the host is empty', help: 'give a host name' };
  if (name.length > maxNameBytes) {
    return { problem: `the name is longer than ${maxNameBytes} bytes`, help: 'give a real host name' };
  }
  for (const label of labels) {
    const problem = labelProblem(label);
    if (problem !== undefined) return problem;
  }
  if (isNumericLabel(labels.at(-1) ?? '')) return numericProblem;
  if (labels.length > 1) return undefined;
  return {
    problem: 'a single label is not a full host name',
    help: `give the full name, such as \`${name}.example.com\``,
  };
}

function byteProblem(text: string): HostProblem | undefined {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (isHostByte(code)) continue;
    if (code > 0x7f) return unicodeProblem(text);
    return {
      problem: `the byte \`${printable(text.charAt(i))}\` cannot be part of a host name`,
      help: 'use ASCII letters, digits, hyphens and dots only',
    };
  }
  return undefined;
}

function isHostByte(code: number): boolean {
  if (code >= 0x61 && code <= 0x7a) return true; // a-z
  if (code >= 0x41 && code <= 0x5a) return true; // A-Z
  return (code >= 0x30 && code <= 0x39) || code === hyphen || code === dot;
}

// UTS 46 is used for the hint only: a converted name is shown, never used.
function unicodeProblem(text: string): HostProblem {
  const ace = text.length <= maxNameBytes ? domainToASCII(text) : '';
  const usable = ace !== '' && ace !== text && 'host' in canonicalHost(ace);
  return {
    problem: 'the name is not ASCII',
    help: usable ? `write the ACE form \`${ace}\`` : 'write the name in its ACE form (`xn--...`)',
  };
}

function labelProblem(label: string): HostProblem | undefined {
  if (label.length === 0)
    return { problem: 'a label is empty', help: 'use one dot between labels and at most one at the end' };
  if (label.length > maxLabelBytes) {
    return { problem: `a label is longer than ${maxLabelBytes} bytes`, help: 'give a real host name' };
  }
  if (label.charCodeAt(0) === hyphen || label.charCodeAt(label.length - 1) === hyphen) {
    return { problem: 'a label starts or ends with a hyphen', help: 'give a host name as in RFC 1123' };
  }
  return undefined;
}

/** Whether `text` can be the alias of a service: one lower-case LDH label, not a number and not `localhost`. */
export function isAliasName(text: string): boolean {
  if (text === 'localhost' || text !== text.toLowerCase() || text.includes('.')) return false;
  return byteProblem(text) === undefined && labelProblem(text) === undefined && !isNumericLabel(text);
}

// What inet_aton or a URL parser would take for a number: such a last label makes the whole an address or an error.
function isNumericLabel(label: string): boolean {
  const hex = label.startsWith('0x');
  for (let i = hex ? 2 : 0; i < label.length; i += 1) {
    if (!isDigit(label.charCodeAt(i), hex ? 16 : 10)) return false;
  }
  return label.length > 0;
}

/** Whether a character code is a digit of base 8, 10 or 16 (lower case). */
export function isDigit(code: number, base: number): boolean {
  if (code >= 0x30 && code <= 0x39) return code - 0x30 < base;
  return base === 16 && code >= 0x61 && code <= 0x66;
}
