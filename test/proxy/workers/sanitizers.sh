#!/bin/sh
# Runs driver.c over the shared board under AddressSanitizer with UndefinedBehaviorSanitizer. ThreadSanitizer sees no other process.
# usage: sanitizers.sh [SEED...]
set -eu
cd "$(dirname "$0")/../../.."
cc=${CC:-cc}
[ $# -gt 0 ] || set -- 1 2 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# shellcheck disable=SC2086 # CC may hold flags
$cc -std=c11 -g -O1 -Wall -Wextra -Wconversion -Werror -pthread -fno-omit-frame-pointer -fsanitize=address,undefined \
  -fno-sanitize-recover=all test/proxy/workers/driver.c proxy/workers/board.c -o "$folder/driver"
for seed in "$@"; do
  echo "address,undefined, board, seed $seed"
  "$folder/driver" "$seed"
done
