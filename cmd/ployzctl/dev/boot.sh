#!/bin/sh
# Boots one machine, and boots it again for as long as it asks for a reboot. Runs with a mount
# namespace of its own, made by the caller, and ends when the machine powers off.
#
#   boot.sh CGROUP DISK LOWER MACHINE NUMBER HOLDER NAME NAT
#
# CGROUP   v2 folder of the machine; boot/ below it is for this script, machine/ for the machine, router/
#          for what stands between it and the others
# DISK     folder with upper/, work/, root/, lower/, ployz/, the file address, and maybe ployz.img
# LOWER    the tree to boot from
# HOLDER   PID of the process whose network namespace has the bridge
# NAT      "nat" puts the machine behind a router that masquerades; "" does not
set -eu
cgroup=$1 disk=$2 lower=$3 machine=$4 number=$5 holder=$6 name=$7 nat=$8

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

# Loop devices by their numbers, since /dev may know fewer of them than the kernel has. They are all
# the computer's; whoever needs one takes the next that is free.
mkdir /run/loop
devices=
for device in /dev/net/tun /dev/fuse /dev/loop-control; do
    [ ! -c "$device" ] || devices="$devices --bind=$device"
done
number_of_loop=0
while [ "$number_of_loop" -lt 64 ]; do
    mknod "/run/loop/loop$number_of_loop" b 7 "$number_of_loop"
    devices="$devices --bind=/run/loop/loop$number_of_loop:/dev/loop$number_of_loop"
    number_of_loop=$((number_of_loop + 1))
done

# attach mounts the image on the first loop device that nobody else takes meanwhile.
attach() {
    tries=0
    until device=/run/loop/$(basename "$(losetup -f)") && losetup "$device" "$1"; do
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] || return 1
        sleep 0.1
    done
    # The image was made without inode tables; nobody shall write to it who is not in the machine.
    mount -t ext4 -o noinit_itable "$device" "$2"
    losetup -d "$device" # which the kernel does with the last unmount
    rmdir "$2/lost+found" 2>/dev/null || true
}
[ ! -e "$disk/ployz.img" ] || attach "$disk/ployz.img" "$disk/ployz"

# cable connects a fresh network namespace, that of the calling shell, to that of another process, and
# join is what happens to the other end. The hardware addresses are the same at every boot, as others
# remember them for a while.
# shellcheck disable=SC2016 # those shells expand them
{
    cable='
        nsenter -t "$peer" -n ip link del "$port" 2>/dev/null || true
        ip link set lo up
        ip link add "$device" address "02:90:10:00:$kind:$(printf %02x "$number")" type veth peer name "$port" netns "$peer"
        nsenter -t "$peer" -n sh -euc "$join" "$port"
        ip link set "$device" up
        ip addr add "$ipv4/24" dev "$device"
        ip route add default via "$gate4"
        if [ -e /proc/sys/net/ipv6 ]; then
            ip addr add "$ipv6/64" dev "$device" nodad
            ip route add default via "$gate6"
        fi
    '
    # A wire that `dev delay` put in the place of the cable stays there.
    to_bridge='
        ip link set "$0" up
        ip link show "$0-wire" >/dev/null 2>&1 || ip link set "$0" master lab0
    '
    to_router='
        ip addr add 192.168.90.1/24 dev "$0"
        [ ! -e /proc/sys/net/ipv6 ] || ip addr add fd93::1/64 dev "$0" nodad
        ip link set "$0" up
    '
    # The router lets out everything and in what answers it. What calls the router itself is dropped, as by those
    # that are sold: a flow of its own would take the port that a machine behind it is about to call from.
    route='
        echo $$ >"$cgroup/router/cgroup.procs"
        echo 1 >/proc/sys/net/ipv4/ip_forward
        [ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
        nft -f - <<RULES
table inet nat {
    chain out { type nat hook postrouting priority 100; oifname "wan" masquerade; }
    chain through { type filter hook forward priority 0; policy drop; iifname "lan" accept; ct state established,related accept; }
    chain to_router { type filter hook input priority 0; iifname "wan" meta l4proto udp ct state new drop; }
}
RULES
        : >/run/routed
        exec sleep infinity
    '
}

# connected runs a shell script in a network namespace of its own that has a cable:
# connected PEER PORT JOIN KIND DEVICE IPV4 GATE4 IPV6 GATE6 SCRIPT [ARG...]
connected() {
    peer=$1 port=$2 join=$3 kind=$4 device=$5 ipv4=$6 gate4=$7 ipv6=$8 gate6=$9
    shift 9
    script=$1
    shift
    env -i PATH="$PATH" cgroup="$cgroup" number="$number" peer="$peer" port="$port" join="$join" kind="$kind" \
        device="$device" ipv4="$ipv4" gate4="$gate4" ipv6="$ipv6" gate6="$gate6" \
        unshare --net sh -euc "$cable$script" "$@"
}

# outside is how the machine, or the router in front of it, is connected to the lab.
outside() {
    read -r ours4 ours6 <"$disk/address"
    kind=$1 device=$2
    shift 2
    connected "$holder" "$machine" "$to_bridge" "$kind" "$device" "$ours4" 10.90.0.254 "$ours6" fd90:10:90::254 "$@"
}

if [ -n "$nat" ]; then
    mkdir -p "$cgroup/router"
    trap 'echo 1 >"$cgroup/router/cgroup.kill"' EXIT
    outside 01 wan "$route" &
    router=$!
    until [ -e /run/routed ]; do
        kill -0 "$router"
        sleep 0.02
    done
    router=$(head -n 1 "$cgroup/router/cgroup.procs")
fi

# shellcheck disable=SC2016 # that shell expands it
boot='
    echo $$ >"$cgroup/machine/cgroup.procs"
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes SYSTEMD_LOG_LEVEL=notice
    exec "$@"
'
while :; do
    # What the last boot left in the cgroup tree would be found by the next systemd.
    echo 1 >"$cgroup/machine/cgroup.kill"
    find "$cgroup/machine" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
    # shellcheck disable=SC2086 # devices is a list of words
    set -- machine systemd-nspawn --quiet --register=no --keep-unit --network-namespace-path=/proc/self/ns/net \
        --capability=all --system-call-filter='bpf perf_event_open add_key keyctl request_key' \
        --machine="$name-$machine" --hostname="$machine" --directory="$disk/root" \
        --bind="$disk/ployz:/var/lib/ployz" $devices \
        --console=passive --resolv-conf=off --timezone=off --link-journal=no --boot
    status=0
    if [ -n "$nat" ]; then
        connected "$router" lan "$to_router" 02 eth0 "192.168.90.$((number + 1))" 192.168.90.1 \
            "fd93::$((number + 1))" fd93::1 "$boot" "$@" || status=$?
    else
        outside 01 eth0 "$boot" "$@" || status=$?
    fi
    # 133 is how nspawn says "rebooted" when it may not restart the machine itself.
    [ "$status" = 133 ] || exit "$status"
    echo "-- reboot --"
done
