// Which environment variables look like ours and are not: a misspelt setting must not be silently ignored. Reads no value.
import { nearest, printable } from '../policy/index.ts';
import { settingKeys, settingTable } from './config-table.ts';

/** Ours, and no setting of the proxy: the settings file, the runner's state, and what raises the tests. */
const others = [
  'SALLYPORT_CONFIG',
  'SALLYPORT_STATE_DIR',
  'SALLYPORT_FUZZ_SECONDS',
  'SALLYPORT_FUZZ_SEED',
  'SALLYPORT_DIFFERENTIAL_TARGETS',
];

export interface UnknownVariable {
  /** Printable. */
  readonly name: string;
  readonly help: string;
}

/** The variables of `env` that start with SALLYPORT_ and mean nothing. */
export function unknownVariables(env: Readonly<Record<string, unknown>>): readonly UnknownVariable[] {
  const known = [...settingKeys.map((key) => settingTable[key].env), ...others];
  return Object.keys(env)
    .filter((name) => name.startsWith('SALLYPORT_') && !known.includes(name))
    .map((name) => ({ name: printable(name), help: helpFor(nearest(name, known)) }));
}

function helpFor(near: string | undefined): string {
  const list = '`sallyport proxy --help` lists the settings';
  return near === undefined ? list : `did you mean ${near}? ${list}`;
}
