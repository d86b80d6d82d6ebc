#!/bin/sh
# Compiles the native parts, one addon a folder, with $CC, or cc, against the headers of the Node that npm brings. Without a compiler: one
# notice, and JavaScript serves in their place. At once when what is built is newer than its sources.
set -eu
cd "$(dirname "$0")"
cc=${CC:-cc}
folders='relay conn workers'

notice() {
  for folder in $folders; do rm -rf "$folder/build"; done
  echo "notice: $1; JavaScript carries the bytes instead" >&2
  exit 0
}

is_current() {
  [ -f "$1/build/$1.node" ] && [ -z "$(find "$1"/*.c "$1"/*.h compile.sh -newer "$1/build/$1.node")" ]
}

old=
for folder in $folders; do is_current "$folder" || old="$old $folder"; done
[ -n "$old" ] || exit 0

# shellcheck disable=SC2086 # CC may hold flags
command -v $cc >/dev/null 2>&1 || notice "no C compiler (\`$cc\`), so the native parts are not built"
include=
for candidate in ../node_modules/node-linux-*/include/node "$(node -p 'require("node:path").resolve(process.execPath, "../../include/node")' 2>/dev/null)"; do
  [ -f "$candidate/node_api.h" ] && include=$candidate && break
done
[ -n "$include" ] || notice 'no headers of Node, so the native parts are not built'

for folder in $old; do
  mkdir -p "$folder/build"
  # The finished file appears at once: a proxy that starts meanwhile finds the old one or the new one.
  # shellcheck disable=SC2086
  $cc -std=c11 -O2 -g -Wall -Wextra -Wconversion -fPIC -shared -pthread -fvisibility=hidden -I"$include" ${CFLAGS:-} \
    "$folder"/*.c -o "$folder/build/$$.node" ||
    notice 'the native parts did not compile (see above)'
  mv "$folder/build/$$.node" "$folder/build/$folder.node"
done
