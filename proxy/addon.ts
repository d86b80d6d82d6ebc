// Loads a native part that compile.sh built. Knows nothing of what it does; each folder says what its own part offers.
import { createRequire } from 'node:module';

/**
 * The exports of `proxy/<folder>/build/<folder>.node`, or why there are none. `names` are the functions it must have;
 * what they take and give is for `Addon` to say, and for the C beside it to keep.
 */
export function loadAddon<Addon extends object>(
  folder: string,
  names: readonly (keyof Addon & string)[],
): Addon | { readonly problem: string } {
  const isWhole = (loaded: unknown): loaded is Addon =>
    typeof loaded === 'object' &&
    loaded !== null &&
    names.every((name) => typeof Reflect.get(loaded, name) === 'function');
  try {
    const loaded: unknown = createRequire(import.meta.url)(`./${folder}/build/${folder}.node`);
    return isWhole(loaded) ? loaded : { problem: 'what was built is something else' };
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND';
    return { problem: isMissing ? 'it is not built' : String(error).split('\n', 1).join('') };
  }
}
