// Runs a command of this checkout as an ordinary user, also when the checkout lies where others cannot go, such as in /root. Needs root.
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
const place = '/mnt';
const user = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
const enter = `mount --bind "$1" ${place} && shift && exec env -u NODE_OPTIONS "$@"`;

/** The words that run `argv` as it is, from a place of the checkout where every user can go on. One process: each step replaces the last. */
export function fromOpenPlace(argv: readonly string[]): readonly [string, ...string[]] {
  const words = argv.map((word) => word.replaceAll(root, place));
  return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', enter, 'sh', root, ...words];
}

/** The words that run `argv` as uid 65534; paths into the checkout are led to where that user finds it. */
export function asNobody(argv: readonly string[]): readonly [string, ...string[]] {
  return fromOpenPlace([...user, ...argv]);
}
