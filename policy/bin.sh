#!/bin/sh
# Starts policy/cli.ts on a Node that runs TypeScript. It is sh and ends in exec, so that `policy` is one process: signals and kill reach it.
here=$(dirname "$(readlink -f "$0")")
for node in "$here/../node_modules/.bin/node" "$(command -v node)"; do
  [ -x "$node" ] || continue
  version=$("$node" --version) && major=${version#v} || continue
  [ "${major%%.*}" -ge 24 ] && exec "$node" "$here/cli.ts" "$@"
done
echo "policy: needs Node.js 24 or newer and found none" >&2
echo "help: run \"npm ci\" in the checkout; it brings one" >&2
exit 69
