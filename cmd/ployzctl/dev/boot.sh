#!/bin/sh
# Boots one machine, and boots it again for as long as it asks for a reboot. Runs with a mount
# namespace of its own, made by the caller, and ends when the machine powers off.
#
#   boot.sh CGROUP DISK LOWER MACHINE NUMBER HOLDER NAME
#
# CGROUP   v2 folder of the machine; boot/ below it is for this script, machine/ for the machine
# DISK     folder with upper/, work/, root/, lower/ and ployz/
# LOWER    the tree to boot from
# HOLDER   PID of the process whose network namespace has the bridge
set -eu
cgroup=$1 disk=$2 lower=$3 machine=$4 number=$5 holder=$6 name=$7

mkdir -p "$cgroup/boot" "$cgroup/machine"
echo $$ >"$cgroup/boot/cgroup.procs"
exec 3>&- # the lock of the lab: now that we are in its cgroup, down finds us

# Nothing mounted in here shows outside, and nothing of the host's stays busy because of us: other
# mounts than the ones needed are let go.
mount --make-rprivate /
awk '{print $5}' /proc/self/mountinfo | sort -r | while read -r point; do
    case $point in
    / | /proc | /proc/* | /sys | /sys/* | /dev | /dev/* | /run | /usr | /var | /etc) continue ;;
    esac
    case $disk/ in "$point"/*) continue ;; esac
    case $lower/ in "$point"/*) continue ;; esac
    umount -l "$(printf %b "$point")" 2>/dev/null || true
done

mount --bind "$lower" "$disk/lower"
mount -t overlay overlay -o "lowerdir=$disk/lower,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
if [ "$lower" = / ]; then
    # A bind of / does not bring along what is mounted on it.
    for part in usr var etc; do
        mountpoint -q "/$part" || continue
        mkdir -p "$disk/parts/$part/upper" "$disk/parts/$part/work"
        mount -t overlay overlay \
            -o "lowerdir=/$part,upperdir=$disk/upper/$part,workdir=$disk/parts/$part/work" "$disk/root/$part"
    done
fi
# nspawn keeps locks and sockets under /run/systemd/nspawn; let them vanish with this namespace.
mount -t tmpfs -o mode=755 tmpfs /run

devices=
for device in /dev/net/tun /dev/fuse /dev/loop-control /dev/loop[0-9]*; do
    [ -c "$device" ] || [ -b "$device" ] || continue
    devices="$devices --bind=$device"
done

# wire connects a fresh network namespace, that of the calling shell, to the lab's bridge.
# shellcheck disable=SC2016 # that shell expands it
wire='
    nsenter -t "$holder" -n ip link del "$machine" 2>/dev/null || true
    ip link set lo up
    # The same hardware address at every boot, as others remember it for a while.
    ip link add eth0 address "02:90:10:00:01:$(printf %02x "$number")" type veth peer name "$machine" netns "$holder"
    nsenter -t "$holder" -n ip link set "$machine" up
    # A wire that `dev delay` put in the place of the cable stays there.
    nsenter -t "$holder" -n ip link show "$machine-wire" >/dev/null 2>&1 ||
        nsenter -t "$holder" -n ip link set "$machine" master lab0
    ip link set eth0 up
    ip addr add "10.90.0.$number/24" dev eth0
    ip route add default via 10.90.0.254
    if [ -e /proc/sys/net/ipv6 ]; then
        ip addr add "fd90:10:90::$number/64" dev eth0 nodad
        ip route add default via fd90:10:90::254
    fi
'
while :; do
    # What the last boot left in the cgroup tree would be found by the next systemd.
    echo 1 >"$cgroup/machine/cgroup.kill"
    find "$cgroup/machine" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
    status=0
    # shellcheck disable=SC2016,SC2086 # expanded by that shell; devices is a list of words
    env -i PATH="$PATH" cgroup="$cgroup" machine="$machine" number="$number" holder="$holder" \
        unshare --net sh -euc "$wire"'
            echo $$ >"$cgroup/machine/cgroup.procs"
            export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes SYSTEMD_LOG_LEVEL=notice
            exec "$@"' machine \
        systemd-nspawn --quiet --register=no --keep-unit --network-namespace-path=/proc/self/ns/net \
        --capability=all --system-call-filter='bpf perf_event_open add_key keyctl request_key' \
        --machine="$name-$machine" --hostname="$machine" --directory="$disk/root" \
        --bind="$disk/ployz:/var/lib/ployz" $devices \
        --console=passive --resolv-conf=off --timezone=off --link-journal=no --boot || status=$?
    # 133 is how nspawn says "rebooted" when it may not restart the machine itself.
    [ "$status" = 133 ] || exit "$status"
    echo "-- reboot --"
done
