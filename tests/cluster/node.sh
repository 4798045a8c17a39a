#!/bin/sh
# A node of the cluster, in a guest: containerd and the kubelet on the guest's first disk. tests/cluster/node.py writes
# what it reads, in $NODE (a directory of the machine that runs the guest): containerd.toml, kubelet.yaml, kubeconfig,
# cni/, and environment. It writes its logs there, and "ready" to its standard output once the kubelet runs.
set -eu
# NAME, ADDRESS, GATEWAY, ROUTES ("range via address", a line each).
. "$NODE/environment"
disk=/dev/ubda

hostname "$NAME"
modprobe -a overlay veth bridge dm-snapshot xfs btrfs 2>>"$NODE/node.log" || true
ip address add "$ADDRESS" dev vec0
ip link set vec0 up
ip route add default via "$GATEWAY"
echo "$ROUTES" | while read -r range _ address; do
    [ -z "$range" ] || ip route add "$range" via "$address"
done
echo 1 >/proc/sys/net/ipv4/ip_forward

mount -t cgroup2 none /sys/fs/cgroup
echo "+cpu +io +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
# The kubelet insists on a clock speed, which this kernel does not tell.
sed '/^$/d; $a cpu MHz\t\t: 2000.000' /proc/cpuinfo >/run/cpuinfo
mount --bind /run/cpuinfo /proc/cpuinfo
ulimit -n 1048576

# What a node keeps over a boot is on its disk: everything else here is memory.
mkdir -p /run/disk
mount "$disk" /run/disk
for directory in lib/containerd lib/kubelet lib/thinpool-csi log/pods log/containers; do
    mkdir -p "/run/disk/$directory" "/var/$directory"
    mount --bind "/run/disk/$directory" "/var/$directory"
done
mount --make-rshared /

containerd --config "$NODE/containerd.toml" >>"$NODE/containerd.log" 2>&1 &
tries=0
until ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] || { echo "containerd does not answer" >&2 && exit 1; }
    sleep 0.5
done
echo ready
exec kubelet --config="$NODE/kubelet.yaml" --kubeconfig="$NODE/kubeconfig" --hostname-override="$NAME" \
    --node-ip="${ADDRESS%/*}" >>"$NODE/kubelet.log" 2>&1
