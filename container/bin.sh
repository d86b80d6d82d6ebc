#!/bin/sh
# Starts container/main.ts on a Node that runs TypeScript. It is sh and ends in exec, so that `sallyport` is one process: signals and kill reach it.
here=$(dirname "$(readlink -f "$0")")
# MiB that new objects may fill before they are collected; half of Node's own bound, and most of what an idle tunnel costs.
young=8
for node in "$here/../node_modules/.bin/node" "$(command -v node)"; do
  [ -x "$node" ] || continue
  version=$("$node" --version) && major=${version#v} || continue
  [ "${major%%.*}" -ge 24 ] && exec "$node" --max-semi-space-size=$young "$here/main.ts" "$@"
done
echo "sallyport: needs Node.js 24 or newer and found none" >&2
echo "help: run \"npm ci\" in the checkout; it brings one" >&2
exit 69
