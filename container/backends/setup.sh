#!/bin/sh
# Builds the file system of one sandbox and becomes its entry guard. Runs as root and as pid 1 of new mount, pid, ipc and uts namespaces,
# inside the network namespace of the run. Everything it is told comes as arguments; nothing here is about the network.
# usage: setup.sh STAGE FILES ENTRY TOLD WORKSPACE IDENTITY UID GID COMMAND...
#   STAGE empty directory to mount on; FILES directory with our own /etc; TOLD a host directory to be read, or ''; WORKSPACE a host directory and its device:inode, or two times ''
set -eu
umask 022
stage=$1 files=$2 entry=$3 told=$4 workspace=$5 identity=$6 uid=$7 gid=$8
shift 8

# Everything writable is its own tmpfs; the rest is read-only, and nothing outside it can be named.
scratch() {
  mount -t tmpfs -o "nosuid,nodev,mode=$2,uid=$3,gid=$4" sallyport "$1"
}
read_only() {
  mount --bind "$1" "$2"
  mount -o remount,bind,ro,nosuid,nodev "$2"
}

# Two levels: the root of the mount namespace is $stage, the root of the command is $stage/root. A process that is not at the root of its
# mount namespace cannot make a user namespace (user_namespaces(7)), so the command cannot win capabilities over a new one.
mount -t tmpfs -o nosuid,nodev,mode=755 sallyport "$stage"
root=$stage/root
mkdir "$root" "$stage/old"
cd "$root"
mkdir -p usr etc proc dev tmp run home/agent workspace var nix/store

read_only /usr usr
for name in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$name" ]; then
    ln -s "$(readlink "/$name")" "$name"
  elif [ -d "/$name" ]; then
    mkdir "$name"
    read_only "/$name" "$name"
  fi
done
if [ -d /nix/store ]; then read_only /nix/store nix/store; else rmdir nix/store nix; fi

# /etc: our own files, then a literal list of the host's that programs need and that hold nothing secret. Java's are under its version.
cp "$files/passwd" "$files/group" "$files/hosts" "$files/resolv.conf" "$files/nsswitch.conf" etc/
for name in alternatives ld.so.cache ld.so.conf ld.so.conf.d localtime magic mime.types \
  pki/ca-trust/extracted pki/tls/certs protocols services ssl/certs ssl/openssl.cnf \
  $(cd /etc && echo java-*-openjdk); do
  [ -e "/etc/$name" ] || continue
  mkdir -p "etc/$(dirname "$name")"
  if [ -d "/etc/$name" ]; then
    mkdir "etc/$name"
    read_only "/etc/$name" "etc/$name"
  else
    cp -L "/etc/$name" "etc/$name"
  fi
done
if [ -L /etc/static ]; then ln -s "$(readlink -f /etc/static)" etc/static; fi

mount -t proc -o nosuid,nodev,noexec proc proc
mount -t tmpfs -o nosuid,noexec,mode=755 sallyport dev
for name in null zero full random urandom tty; do
  : >"dev/$name"
  mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm
mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
scratch dev/shm 1777 0 0
mount -o remount,ro,nosuid,noexec dev

# Fresh /run and /var: no socket of the host (nix daemon, D-Bus, X11, containers, ssh-agent, nscd, resolved) has a path in here.
scratch tmp 1777 0 0
scratch run 755 0 0
scratch home/agent 700 "$uid" "$gid"
ln -s ../tmp var/tmp
ln -s ../run var/run
if [ -L /run/current-system ]; then ln -s "$(readlink -f /run/current-system)" run/current-system; fi
if [ -n "$workspace" ]; then
  mount --bind "$workspace" workspace
  # It was checked by its name, and a name can be given to something else meanwhile: what counts is what is mounted now.
  if [ "$(stat -c %d:%i workspace)" != "$identity" ]; then
    echo "sallyport: the workspace is not the directory that was checked" >&2
    exit 64
  fi
  mount -o remount,bind,rw,nosuid,nodev workspace
else
  scratch workspace 755 "$uid" "$gid"
fi

# The first process is a shell the command may run but not read: the kernel then lets nobody of its own uid trace it (ptrace(2), dumpable).
mkdir run/sallyport
cp "$entry" run/sallyport/entry.sh
cp "$(readlink -f "$(command -v sh)")" run/sallyport/init
chmod 444 run/sallyport/entry.sh
chmod 111 run/sallyport/init
if [ -n "$told" ]; then
  mkdir run/sallyport/policy
  read_only "$told" run/sallyport/policy
fi
mount -o remount,ro,nosuid,nodev run

hostname sandbox 2>/dev/null || echo sandbox >/proc/sys/kernel/hostname
# Between the two roots the tools are still needed: links lead to them. The root itself stays out of reach of the command.
for name in usr bin sbin lib lib32 lib64 libx32 etc nix proc dev; do
  if [ -e "$name" ]; then ln -s "root/$name" "$stage/$name"; fi
done
# pivot_root keeps working when / is shared or a ramfs, because the new mounts are private (unshare --propagation private).
cd "$stage"
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,ro,nosuid,nodev /
# Twice setpriv: at its own exec the first still holds capabilities, with which it could read the unreadable shell; and a change of uid
# clears the parent-death signal, so that is set last.
exec chroot /root /usr/bin/env -u OLDPWD -C /workspace setpriv --reuid "$uid" --regid "$gid" --clear-groups \
  --inh-caps=-all --ambient-caps=-all --bounding-set=-all --no-new-privs \
  setpriv --pdeathsig KILL /run/sallyport/init /run/sallyport/entry.sh "$@"
