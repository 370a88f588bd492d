#!/bin/sh
# After files are gone. Remove: keep everything that serves, and the data. Purge: stop and remove
# everything of ours, asking nothing.
#
# deb: postrm remove | purge | upgrade ...      rpm: %postun 0 (remove) or 1 (upgrade)
set -eu

# rendered lists the unit files that ployzd wrote; others of a similar name are not ours.
rendered() {
    grep -ls '^X-Ployz-Identity=' /etc/systemd/system/ployz-*.* || true
}

# stop_all ends every unit of ours; a slice takes all that runs in it along.
stop_all() {
    units=$(rendered | sed 's|.*/||')
    # shellcheck disable=SC2086 # a list of words
    [ -z "$units" ] || systemctl stop $units || true
    systemctl stop ployz.slice || true
}

# unmount lets go of all that is mounted below a folder, deepest first; the folder itself may be a
# file system of its own and stays.
unmount() {
    awk '{print $5}' /proc/self/mountinfo | sort -r | while read -r point; do
        case $point in
        "$1"/*) umount -l "$(printf %b "$point")" || true ;;
        esac
    done
}

# empty removes a folder, without ever following a mount that would not go.
empty() {
    [ -d "$1" ] || return 0
    find "$1" -xdev -mindepth 1 -delete || true
    rmdir "$1" 2>/dev/null || true
}

# unlink_network removes the bridge with all its ports, the overlay's device, and the packet filter's table.
unlink_network() {
    [ -e /sys/class/net/ployz0 ] || return 0
    if command -v nft >/dev/null; then nft delete table inet ployz 2>/dev/null || true; fi
    if command -v ip >/dev/null; then
        ip link delete ployz0 || true
        [ ! -e /sys/class/net/ployz-wg ] || ip link delete ployz-wg || true
        for family in -4 -6; do ip $family route flush proto 147 || true; done # our mark on what is on no interface
    else
        echo "The bridge ployz0 stays until the next boot, as there is no ip command here."
    fi
}

# keep_pool says what a purge does not remove: a pool in a file system that was there before us.
keep_pool() {
    if grep -qsE '"kind": "(zfs|btrfs)"' /var/lib/ployz/pool.json; then
        echo "Volumes in this machine's own $(sed -n 's/.*"kind": "\(.*\)".*/\1/p; s/.*"at": "\(.*\)".*/\1/p' /var/lib/ployz/pool.json | tr '\n' ' ')stay."
    fi
}

purge() {
    keep_pool
    if [ -d /run/systemd/system ]; then stop_all; fi
    rendered | while read -r file; do
        find /etc/systemd/system -name "${file##*/}" -type l -delete
        rm -rf "$file" "$file.d" "$file.wants" "$file.requires"
    done
    find /etc/systemd/system -name 'ployzd.*' -type l -delete
    unmount /run/ployz
    unmount /var/lib/ployz
    unlink_network
    empty /run/ployz
    empty /var/lib/ployz
    empty /etc/ployz
}

case "${1:-}" in
purge) purge ;;
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
