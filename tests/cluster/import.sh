#!/bin/sh
# import.sh PROGRAMS TREE ARCHIVE…: makes TREE/lib/containerd what containerd keeps once it has these images. It runs
# as the first process of a process and a mount namespace.
set -eu
export PATH="$1:/usr/sbin:/usr/bin:/sbin:/bin"
tree=$2
shift 2
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p "$tree/lib/containerd"
containerd --root "$tree/lib/containerd" --state /run/containerd --log-level error >&2 &
tries=0
until ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "containerd does not answer" >&2 && exit 1; }
    sleep 0.1
done
for archive; do
    ctr --namespace k8s.io images import --local --snapshotter overlayfs "$archive" >&2
done
kill $!
wait $! || true
