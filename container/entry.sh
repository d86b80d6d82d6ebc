#!/bin/sh
# First process of a sandbox: checks that the boundary is on, waits for the word to begin, then runs the command as its child,
# so that orphans are reaped and the exit status passes. It sets nothing up. Any doubt ends in status 64.

refuse() {
  echo "sallyport: entry guard: $1" >&2
  exit 64
}

[ -n "${SALLYPORT_RUN:-}" ] || refuse 'the marker SALLYPORT_RUN is not set, so this is not the inside of a run'

# 0 to 2 are the caller's, 3 is the runner's; the shell itself holds this script, and the glob its directory for a moment.
for file in /proc/$$/fd/*; do
  case ${file##*/} in
    [0-2]) [ ! -d "$file" ] || refuse "descriptor ${file##*/} is a directory of the host, and leads out of the sandbox" ;;
  esac
  case ${file##*/} in [0-3]) continue ;; esac
  [ -e "$file" ] || [ -h "$file" ] || continue
  [ "$file" -ef "$0" ] || refuse "descriptor ${file##*/} is open, and may lead out of the sandbox"
done

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
# The list and the loop have names that no variable of the command can have: SALLYPORT_ belongs to the runner.
for SALLYPORT_NAME in ${SALLYPORT_NAMES:-}; do
  case $SALLYPORT_NAME in '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) refuse 'a variable has a bad name' ;; esac
  eval "export $SALLYPORT_NAME=\"\$SPENV_$SALLYPORT_NAME\""
  unset "SPENV_$SALLYPORT_NAME"
done
unset SALLYPORT_NAMES SALLYPORT_NAME

# Its end by a signal is told by the status; this shell's own word about it (`Terminated`) would stand among the command's output. In
# brackets, because dash points its own stderr, too, where it points that of a simple command; they cost no process.
exec 4>&2 2>/dev/null
("$@") 2>&4 4>&-
exit $?
