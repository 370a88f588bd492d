#!/bin/sh
# Builds the kernel of the test machine: Debian's, with OpenZFS's modules and an initial RAM disk that
# finds a virtio disk. It takes ten minutes, nearly all of them the modules.
#
#   kernel.sh OUT      writes OUT/vmlinuz, OUT/initrd.img, OUT/modules.tar and OUT/version
set -eu
out=$1
suite=trixie
tree=$(mktemp -d "$out/tree.XXXXXX")
trap 'rm -rf "$tree"' EXIT

# shellcheck disable=SC2016 # the $1 of a hook is the tree, and mmdebstrap's to fill in
# zfs-dkms builds for every kernel whose headers are installed, as it is configured.
mmdebstrap --variant=minbase --components=main,contrib \
    --include=linux-image-cloud-amd64,linux-headers-cloud-amd64,initramfs-tools,kmod,zstd,dkms,zfs-dkms,e2fsprogs \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
    --essential-hook='printf "MODULES=list\nCOMPRESS=lz4\nCOMPRESSLEVEL=1\n" >"$1/etc/initramfs-tools/conf.d/ployz"' \
    --include=lz4 "$suite" "$tree"

version=$(basename "$tree"/lib/modules/*)
if ! find "$tree/lib/modules/$version/updates" -name 'zfs.ko*' | grep -q .; then
    cat "$tree"/var/lib/dkms/zfs/*/build/make.log >&2 || true
    echo "kernel.sh: no zfs module for $version" >&2
    exit 1
fi
printf 'virtio_pci\nvirtio_blk\nvirtio_net\next4\n' >"$tree/etc/initramfs-tools/modules"
chroot "$tree" depmod "$version"
chroot "$tree" mkinitramfs -o /boot/initrd.ployz "$version"
cp "$tree/boot/vmlinuz-$version" "$out/vmlinuz"
cp "$tree/boot/initrd.ployz" "$out/initrd.img"
tar -C "$tree" --exclude=build --exclude=source -cf "$out/modules.tar" "usr/lib/modules/$version"
echo "$version" >"$out/version"
