// The settings as people read them: docs/config.md and the lines of `sallyport config show`. Reads none itself.
import type { Origins } from './config-sources.ts';
import { flagOf, settingKeys, settingTable, type Told } from './config-table.ts';

const head = `# Settings of the proxy

Generated from \`proxy/config-table.ts\` by \`npm run docs\`; do not edit.

A flag wins over the environment, that over the file of \`--config FILE\` (or \`SALLYPORT_CONFIG\`), that over the default. The file is one JSON object
with the keys of the first column; a key that is not here or stands twice is refused, and so is a value that cannot be read. Lists are lists in the file,
repeated flags, and separated by commas in the environment. \`none\` (in the file \`null\`) unsets what may be unset. A variable that starts
with \`SALLYPORT_\` and is none of these is ignored with a warning that names the nearest one.

\`sallyport config show --origin\` prints each setting with its source. The policy is not configuration: it has its own file.
`;

/** The text of docs/config.md. */
export function configPage(): string {
  const top = [
    '| key | flag | environment | default | unit | meaning |',
    '| --- | --- | --- | --- | --- | --- |',
  ];
  return [head, ...top, ...settingKeys.map(pageLine), ''].join('\n');
}

function pageLine(key: keyof Told): string {
  const { env, unit = '', doc } = settingTable[key];
  return `| \`${key}\` | \`${flagOf(key)}\` | \`${env}\` | \`${defaultOf(key)}\` | ${unit} | ${doc.replaceAll('|', '\\|')} |`;
}

/** The default as it would be typed. */
export function defaultOf(key: keyof Told): string {
  return valueText(key, settingTable[key].fallback);
}

/** One line a setting; with `origin`, where it came from. */
export function showLines(told: Told, origins: Origins, withOrigin: boolean): string {
  const width = Math.max(...settingKeys.map((key) => key.length));
  const lines = settingKeys.map((key) => {
    const line = `${key.padEnd(width)}  ${valueText(key, told[key])}`;
    return withOrigin ? `${line}  (${origins.get(key) ?? 'default'})` : line;
  });
  return `${lines.join('\n')}\n`;
}

function valueText<Key extends keyof Told>(key: Key, value: Told[Key]): string {
  return settingTable[key].read.show(value);
}

/** The same as JSON: values by key, or `{ value, origin }` by key. */
export function showJson(told: Told, origins: Origins, withOrigin: boolean): string {
  const entries = settingKeys.map((key) => {
    const value =
      settingTable[key].isSecret === true && told[key] !== null ? valueText(key, told[key]) : told[key];
    return [key, withOrigin ? { value, origin: origins.get(key) } : value];
  });
  return `${JSON.stringify(Object.fromEntries(entries), undefined, 2)}\n`;
}
