#!/bin/sh
# Prints, as tar, a root file system that stands for the images of Node: this machine's Node, a shell, and in /built what npm would fetch and make.
# Usage: node-image.sh CHECKOUT NODE | docker import - NAME
set -eu
checkout=$1
node=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cd "$root"
chmod 755 .
mkdir -p bin usr/local/bin built/node_modules proc sys dev etc tmp
chmod 1777 tmp
cp "$node" usr/local/bin/node
for program in sh readlink dirname cp; do cp -L "$(command -v $program)" bin/; done
ldd bin/* usr/local/bin/node | grep -o '/[^ ]*\.so[^ ]*' | sort -u | while read -r library; do cp -L --parents "$library" .; done
list="Object.entries(require('$checkout/package-lock.json').packages).filter(([path, { dev, devOptional, optional }]) => path.startsWith('node_modules/') && !dev && !devOptional && !optional).map(([path]) => path).join('\\n')"
"$node" -p "$list" | while read -r package; do (cd "$checkout" && cp -rL --parents "$package" "$root/built"); done
(cd "$checkout" && for addon in proxy/*/build; do [ ! -d "$addon" ] || cp -r --parents "$addon" "$root/built"; done)
tar -c .
