#!/bin/sh
# Runs a command in a mount namespace of its own in which /etc and /usr/sbin are layers, and DIR/audit is a disk of 512 KiB: so a test may take nft away,
# fill the disk or load a library into every program that the command starts, and the machine around it has none of that.
# Usage: machine.sh DIR PRELOAD COMMAND ...
set -eu
dir=$1 preload=$2
shift 2
for place in /etc /usr/sbin "$dir"; do mount --make-private "$(findmnt -nro TARGET -T "$place" | tail -n 1)"; done
mkdir -p "$dir/layers" "$dir/audit"
mount -t tmpfs -o mode=0755 tmpfs "$dir/layers"
mount -t tmpfs -o size=512k,mode=0755 tmpfs "$dir/audit"
for place in /etc /usr/sbin; do
  layer=$dir/layers$place
  mkdir -p "$layer/upper" "$layer/work"
  mount -t overlay overlay -o "lowerdir=$place,upperdir=$layer/upper,workdir=$layer/work" "$place"
done
echo "$preload" >/etc/ld.so.preload
exec "$@"
