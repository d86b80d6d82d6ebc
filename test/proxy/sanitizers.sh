#!/bin/sh
# Runs the drivers of the native parts under the sanitizers: the relay under AddressSanitizer with UndefinedBehaviorSanitizer, and under
# ThreadSanitizer, with pipes to spare and with almost none, its tunnels changing lanes often; the set-up engine under the first only, because
# it has one thread and no lock.
# usage: sanitizers.sh [SEED...]; each seed is a load of its own. SALLYPORT_RELAY_LOAD: tunnels per load. SALLYPORT_CONN_LOAD: connections.
set -eu
cd "$(dirname "$0")/../.."
cc=${CC:-cc}
tunnels=${SALLYPORT_RELAY_LOAD:-3000}
connections=${SALLYPORT_CONN_LOAD:-3000}
[ $# -gt 0 ] || set -- 1 2 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# ThreadSanitizer of older compilers does not know the address layout of newer kernels.
fixed=
command -v setarch >/dev/null 2>&1 && setarch "$(uname -m)" -R true 2>/dev/null && fixed="setarch $(uname -m) -R"

# build SANITIZER ARGUMENT...
build() {
  sanitizer=$1
  shift
  # shellcheck disable=SC2086 # CC may hold flags
  $cc -std=c11 -g -O1 -Wall -Wextra -Wconversion -Werror -pthread -fno-omit-frame-pointer -fsanitize="$sanitizer" \
    -fno-sanitize-recover=all "$@" -o "$folder/driver"
}

build address,undefined test/proxy/conn/driver.c \
  proxy/conn/engine.c proxy/conn/table.c proxy/conn/accept.c proxy/conn/stream.c proxy/conn/sockets.c
for seed in "$@"; do
  echo "set-up engine, address,undefined:"
  "$folder/driver" "$seed" "$connections"
done

for sanitizer in address,undefined thread; do
  for pipes in 128 3; do
    build "$sanitizer" -DMAX_PIPES="$pipes" -DBULK_BYTES=2000 -DBULK_TURNS=1 -DQUICK_TURNS=1 test/proxy/relay/driver.c \
      proxy/relay/relay.c proxy/relay/lane.c proxy/relay/pump.c proxy/relay/deadlines.c
    for seed in "$@"; do
      echo "relay, $sanitizer, $pipes pipes:"
      # shellcheck disable=SC2086 # a command and its arguments
      TSAN_OPTIONS=halt_on_error=1 $fixed "$folder/driver" "$seed" "$tunnels"
    done
  done
done
