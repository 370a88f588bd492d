#!/bin/sh
# Holds a lab's network: owns its network namespace, with the bridge in it. Runs with that and a
# mount namespace fresh, made by the caller.
#
#   hold.sh CGROUP READY
#
# CGROUP   v2 folder to run in
# READY    file to make when the bridge is up
set -eu
cgroup=$1 ready=$2

mkdir -p "$cgroup"
echo $$ >"$cgroup/cgroup.procs"
exec 3>&- # the lock of the lab: now that we are in its cgroup, down finds us

ip link set lo up
# An address of its own, as a bridge else takes one of its ports' and changes it with them.
ip link add lab0 address 02:90:10:00:00:fe type bridge forward_delay 0
ip link set lab0 up
ip addr add 10.90.0.254/24 dev lab0
if [ -e /proc/sys/net/ipv6 ]; then
    ip addr add fd90:10:90::254/64 dev lab0 nodad
fi
: >"$ready"

# Keep nothing of the host's busy: it may want to unmount things while the lab runs.
mount --make-rprivate /
awk '{print $5}' /proc/self/mountinfo | sort -r | while read -r point; do
    case $point in
    / | /proc | /proc/* | /sys | /sys/* | /dev | /dev/* | /run | /usr) continue ;;
    esac
    umount -l "$(printf %b "$point")" 2>/dev/null || true
done
cd /
exec sleep infinity
