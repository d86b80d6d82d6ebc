// Notices that a policy file may have changed. Watches the directory: a watch on the file goes blind at the first atomic rename.
import { watch } from 'node:fs';
import { basename, dirname } from 'node:path';

/** Writers touch a file several times; this much after the first touch we look, in ms. */
const settleMs = 100;

/** Calls `onChange` after changes until closed. A directory that cannot be watched is an error at the start. */
export function watchPolicyFile(path: string, onChange: () => void): { close(): void } {
  let timer: NodeJS.Timeout | undefined;
  const soon = (): void => {
    timer ??= setTimeout(() => {
      timer = undefined;
      onChange();
    }, settleMs);
  };
  const watcher = watch(dirname(path), { persistent: false }, (_event, name) => {
    if (name === null || isOfPolicy(name, path)) soon();
  });
  watcher.on('error', soon);
  return {
    close() {
      clearTimeout(timer);
      watcher.close();
    },
  };
}

/** The file itself, the link that a Kubernetes ConfigMap swaps (`..data`), or another Nix file that a Nix policy may import. */
function isOfPolicy(name: string, path: string): boolean {
  return name === basename(path) || name.startsWith('..') || (path.endsWith('.nix') && name.endsWith('.nix'));
}
