#!/bin/sh
# The guest's first process. It runs from a private directory of the host (hostfs), beside the files it was given:
#   environment  variables to export, in shell syntax
#   command      the script to run
#   keep         paths below /tmp that must stay visible, one a line
# and writes there
#   started      when the command begins
#   status       the command's exit status
# The kernel command line hands guest_* words over as environment variables.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
dir=${0%/*}
modules=/usr/lib/uml/modules

# Everything is written to an overlay in memory, so that nothing done here reaches the host's tree.
mount -t proc proc /proc
insmod "$modules/$(uname -r)/kernel/fs/overlayfs/overlay.ko"
mount -t tmpfs -o size=75% tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
umount /proc
mount --move /dev /mnt/root/dev
mount -t tmpfs -o mode=755 tmpfs /mnt/root/run
mkdir -p /mnt/root/run/host
cd /mnt/root && pivot_root . run/host && cd / || exec echo "guest: no overlay root"

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue /run/guest /run/lock /run/shared /lib/modules
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o size=75% tmpfs /tmp
chmod 1777 /tmp /dev/shm
mount --bind "$modules" /lib/modules
mount --bind "/run/host$dir" /run/guest
while read -r path; do
    mkdir -p "$path"
    mount --bind "/run/host$path" "$path"
done </run/guest/keep
[ -z "$guest_share" ] || mount --bind "/run/host$guest_share" /run/shared
umount -l /run/host
ip link set lo up
hostname guest
. /run/guest/environment

modprobe -a dm-mod dm-thin-pool loop
if [ "$guest_udev" = 1 ]; then
    /lib/systemd/systemd-udevd --daemon
    udevadm trigger --subsystem-match=block --subsystem-match=misc --action=add
    udevadm settle --timeout=30
fi

stty -F /dev/tty1 raw -echo
stty -F /dev/tty2 raw -echo
: >/run/guest/started
setsid sh /run/guest/command </dev/null >/dev/tty1 2>/dev/tty2
echo $? >/run/guest/status.new
mv /run/guest/status.new /run/guest/status

# A device that hangs must not keep the guest from going: the disks get ten seconds.
sync &
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 $! 2>/dev/null || break
    sleep 0.2 && kill -0 $! 2>/dev/null && sleep 0.8
done
echo o >/proc/sysrq-trigger
while :; do sleep 60; done
