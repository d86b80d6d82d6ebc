#!/bin/sh
# Compiles the native relay with $CC, or cc, against the headers of the Node that npm brings. Without a compiler: one notice, and the JavaScript relay serves.
set -eu
cd "$(dirname "$0")"
cc=${CC:-cc}
root=../..
out=build/relay.node

notice() {
  rm -f "$out"
  echo "notice: $1; the JavaScript relay takes over" >&2
  exit 0
}

include=
for folder in "$root"/node_modules/node-linux-*/include/node "$(node -p 'require("node:path").resolve(process.execPath, "../../include/node")' 2>/dev/null)"; do
  [ -f "$folder/node_api.h" ] && include=$folder && break
done

if [ -f "$out" ] && [ -z "$(find ./*.c ./*.h compile.sh -newer "$out")" ]; then exit 0; fi
# shellcheck disable=SC2086 # CC may hold flags
command -v $cc >/dev/null 2>&1 || notice "no C compiler (\`$cc\`), so the native relay is not built"
[ -n "$include" ] || notice 'no headers of Node, so the native relay is not built'

mkdir -p build
# The finished file appears at once: a proxy that starts meanwhile finds the old one or the new one.
# shellcheck disable=SC2086
$cc -std=c11 -O2 -g -Wall -Wextra -Wconversion -fPIC -shared -pthread -fvisibility=hidden -I"$include" ${CFLAGS:-} \
  ./*.c -o "build/$$.node" ||
  { rm -f "build/$$.node"; notice 'the native relay did not compile (see above)'; }
mv "build/$$.node" "$out"
