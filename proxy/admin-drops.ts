// Reads what a fence's listener tells of dropped packets, in the exact shape or not at all. The lines are written by the audit.
import { dropClasses, type DropClass, type DropEvent } from './observe/index.ts';

const most = 200;
const maxText = 64;

type Fields = Readonly<Record<string, unknown>>;

/** The events of one body: at most 200 packets of one principal. Undefined when anything of it is not as it should be. */
export function readDropEvents(body: Fields | undefined): readonly DropEvent[] | undefined {
  const { run, principal, drops, ...rest } = body ?? {};
  if (Object.keys(rest).length > 0 || !isTextOrNull(run) || !isText(principal)) return undefined;
  if (!Array.isArray(drops) || drops.length > most) return undefined;
  const events = drops.map((one: unknown) => readDrop(one, { run, principal }));
  return events.every((event) => event !== undefined) ? events : undefined;
}

function readDrop(value: unknown, who: Pick<DropEvent, 'run' | 'principal'>): DropEvent | undefined {
  const fields: Fields = typeof value === 'object' && value !== null ? { ...value } : {};
  const { at, class: name, protocol, source, address, port, ...rest } = fields;
  const known = dropClasses.find((one) => one === name);
  if (Object.keys(rest).length > 0 || known === undefined || !isTime(at) || !isText(protocol))
    return undefined;
  if (!isTextOrNull(source) || !isTextOrNull(address) || !isPortOrNull(port)) return undefined;
  const time = new Date(at).toISOString();
  const drop: { readonly class: DropClass } = { class: known };
  return { event: 'drop', time, ...who, ...drop, protocol, source, address, port };
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && value > 0 && value < 8.64e15;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= maxText;
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || isText(value);
}

function isPortOrNull(value: unknown): value is number | null {
  return (
    value === null || (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 65_536)
  );
}
