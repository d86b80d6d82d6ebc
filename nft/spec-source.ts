// Where the command line's spec comes from: a JSON file, or flags for one sandbox. Fills in defaults; the checking is spec.ts's.
import { open } from 'node:fs/promises';
import { subnetOf } from './bridge.ts';
import { FenceError } from './errors.ts';
import { isFields } from './json.ts';
import { checkSpec, type FenceSpec } from './spec.ts';

export interface SpecFlags {
  readonly interface?: string;
  readonly address?: string;
  readonly proxy?: string;
  readonly port?: readonly string[];
  readonly datagram?: readonly string[];
  readonly name?: string;
  readonly pool?: string;
  readonly subnet?: string;
  readonly table?: string;
}

export const specDefaults = { table: 'sallyport', pool: '10.219.0.0/16', name: 'sandbox' } as const;
const maxSpecBytes = 1024 * 1024;

/** The spec in a file of at most 1 MiB; `table` overrides the one in it. Rejects with a FenceError `spec_invalid`. */
export async function readSpecFile(path: string, table: string | undefined): Promise<FenceSpec> {
  const value = parse(path, await readText(path));
  if (!isFields(value)) throw unreadable(path, 'is not a JSON object');
  return checkSpec({
    table: specDefaults.table,
    pool: specDefaults.pool,
    ...value,
    ...(table === undefined ? {} : { table }),
  });
}

/** The spec of one sandbox, or without `--address` of one bridge, given by flags. Rejects with a FenceError `spec_invalid`. */
export async function specFromFlags(flags: SpecFlags): Promise<FenceSpec> {
  const [proxy, inProxy] = (flags.proxy ?? '').split(':');
  const port = [...(inProxy === undefined ? [] : [inProxy]), ...(flags.port ?? [])];
  const { interface: link, address, table = specDefaults.table, pool = specDefaults.pool } = flags;
  for (const [key, value] of Object.entries({ interface: link, proxy: flags.proxy, port: port[0] }))
    if (value === undefined)
      throw new FenceError(
        'spec_invalid',
        `\`--${key}\` is missing`,
        'give --spec FILE, or --interface, --proxy and --port, and --address unless it is a bridge',
      );
  const name = flags.name ?? specDefaults.name;
  const common = { name, interface: link, proxy, ports: port.map(asPort) };
  const datagrams = flags.datagram && { datagrams: flags.datagram.map(asPort) };
  if (address !== undefined)
    return checkSpec({ table, pool, sandboxes: [{ ...common, address, ...datagrams }] });
  const subnet = flags.subnet ?? (await subnetOf(link ?? ''));
  // A bridge has no such key: checkSpec says so.
  return checkSpec({ table, pool, sandboxes: [], networks: [{ ...common, subnet, ...datagrams }] });
}

/** The number in strict decimal spelling, else the text itself, for checkSpec to refuse by name. */
function asPort(text: string): number | string {
  return /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : text;
}

async function readText(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const bytes = Buffer.alloc(maxSpecBytes + 1);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    if (bytesRead > maxSpecBytes) throw unreadable(path, 'is larger than 1 MiB');
    return bytes.toString('utf8', 0, bytesRead);
  } catch (error) {
    throw error instanceof FenceError
      ? error
      : unreadable(path, `cannot be read: ${error instanceof Error ? error.message : ''}`);
  }
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw unreadable(path, `is not JSON: ${error instanceof Error ? error.message : ''}`);
  }
}

function unreadable(path: string, problem: string): FenceError {
  return new FenceError(
    'spec_invalid',
    `\`${path}\` ${problem}`,
    '`sallyport fence plan --help` shows a whole spec',
  );
}
