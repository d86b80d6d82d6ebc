#!/bin/sh
# First process of a sandbox: checks that the boundary is on, waits for the word to begin, then runs the command as its child,
# so that orphans are reaped and the exit status passes. It sets nothing up. Any doubt ends in status 64.

refuse() {
  echo "sallyport: entry guard: $1" >&2
  exit 64
}

[ -n "${SALLYPORT_RUN:-}" ] || refuse 'the marker SALLYPORT_RUN is not set, so this is not the inside of a run'

uids='' caps='' nnp=''
while read -r key values; do
  case $key in
    Uid:) uids=$values ;;
    Cap*:) caps="$caps $values" ;;
    NoNewPrivs:) nnp=$values ;;
  esac
done </proc/self/status
[ -n "$uids" ] || refuse 'cannot read /proc/self/status'
for uid in $uids; do
  [ "$uid" != 0 ] || refuse 'the command would be root'
done
[ "$nnp" = 1 ] || refuse 'no-new-privileges is not set'
for cap in $caps; do
  case $cap in *[!0]*) refuse 'a capability is left' ;; esac
done

# Ready. From here on the death of the runner ends this process by signal; before, it ends this read.
{ echo ready >&3; } 2>/dev/null || refuse 'nobody is waiting on descriptor 3'
read -r word <&3 && [ "$word" = go ] || refuse 'the runner gave no word to begin'
exec 3>&-

# The command's variables come under a prefix, so that none of them can steer the tools that built the sandbox.
for name in ${SPENV_NAMES:-}; do
  case $name in '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) refuse 'a variable has a bad name' ;; esac
  eval "export $name=\"\$SPENV_$name\""
  unset "SPENV_$name"
done
unset SPENV_NAMES

"$@"
exit $?
