// Reads parts of a canonical text back. The text has passed every check, or has the digest of one that did: here only the outline is
// looked at, so that a bug shows where it is.

import type { PolicyDocument, RuleDocument, ServiceDocument } from './document.ts';

/** The rule in its JSON text. */
export function readRule(json: string): RuleDocument {
  const value: unknown = JSON.parse(json);
  if (isRule(value)) return value;
  throw bug('a rule');
}

/** The services in the JSON text of their list. */
export function readServices(json: string): readonly ServiceDocument[] {
  const value: unknown = JSON.parse(json);
  if (Array.isArray(value) && value.every(isService)) return value;
  throw bug('a list of services');
}

/** The whole. */
export function readDocument(json: string): PolicyDocument {
  const value: unknown = JSON.parse(json);
  if (isDocument(value)) return value;
  throw bug('a policy');
}

function isRule(value: unknown): value is RuleDocument {
  return typeof value === 'object' && value !== null && 'id' in value && 'host' in value && 'reason' in value;
}

function isService(value: unknown): value is ServiceDocument {
  return isRule(value) && 'name' in value && 'port' in value;
}

function isDocument(value: unknown): value is PolicyDocument {
  return typeof value === 'object' && value !== null && 'allow' in value && 'deny' in value;
}

function bug(what: string): Error {
  return new Error(`bug: a canonical text does not hold ${what} where it should`);
}
