#!/bin/sh
# Prints the folder with the test machine's kernel, initial RAM disk, disk and ssh key, and builds what is
# missing of it. Each half is kept under the digest of the script that makes it, so that a change to the
# disk does not cost the ten minutes of the kernel.
#
#   build.sh       PLOYZ_VM_CACHE (/var/cache/ployz-vm) is where they are kept
set -eu
here=$(dirname "$(readlink -f "$0")")
cache=${PLOYZ_VM_CACHE:-/var/cache/ployz-vm}
mkdir -p "$cache"

# Only whole parts have their final name; and two runs do not build the same one at once.
part() { # NAME SCRIPTS...: sets $made, the part's folder
    name=$1 && shift
    digest=$(cat "$@" | sha256sum | cut -c1-12)
    made=$cache/$name-$digest
    [ ! -d "$made" ] || return 0
    half=$made.half
    rm -rf "$half" && mkdir -p "$half"
    echo "building the test machine's $name (log: $half.log)" >&2
    "$build_with" "$half" >"$half.log" 2>&1 || { tail -30 "$half.log" >&2; exit 1; }
    mv "$half" "$made" && mv "$half.log" "$made/log"
}
kernel() { "$here/kernel.sh" "$1"; }
disk() { "$here/disk.sh" "$kernel" "$1"; }

exec 9>"$cache/lock"
flock 9
build_with=kernel && part kernel "$here/kernel.sh" && kernel=$made
build_with=disk && part disk "$here/kernel.sh" "$here/disk.sh" && disk=$made

for file in vmlinuz initrd.img; do ln -sf "../$(basename "$kernel")/$file" "$disk/$file"; done
echo "$disk"
