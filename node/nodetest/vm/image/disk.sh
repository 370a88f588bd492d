#!/bin/sh
# Builds the disk of the test machine: Debian with systemd and the tools of both storage backends, open by
# ssh to one key. It holds nothing of ours; tests install the package.
#
#   disk.sh KERNEL OUT      KERNEL is what kernel.sh wrote; writes OUT/disk.img and OUT/key
set -eu
kernel=$1 out=$2
suite=trixie
tree=$(mktemp -d "$out/tree.XXXXXX")
trap 'rm -rf "$tree"' EXIT

mmdebstrap --variant=minbase --components=main,contrib \
    --include=systemd-sysv,udev,dbus,iproute2,kmod,openssh-server,btrfs-progs,zfsutils-linux,nftables,curl,procps,e2fsprogs \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$tree"

tar -C "$tree" -xf "$kernel/modules.tar"
chroot "$tree" depmod "$(cat "$kernel/version")"

echo testvm >"$tree/etc/hostname"
printf '127.0.0.1 localhost testvm\n::1 localhost\n' >"$tree/etc/hosts"
echo '/dev/vda / ext4 defaults 0 1' >"$tree/etc/fstab"
cat >"$tree/etc/systemd/network/10-test.network" <<'NET'
[Match]
Name=en* eth*
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
NET
chroot "$tree" systemctl -q enable systemd-networkd ssh
# What a machine of minutes has no use for; under emulation each costs seconds.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-networkd-wait-online.service getty@tty1.service systemd-hwdb-update.service ldconfig.service \
    systemd-timesyncd.service systemd-udev-settle.service zfs-import-cache.service zfs-import-scan.service zfs-volume-wait.service \
    systemd-networkd-persistent-storage.service zfs-zed.service zfs-mount.service zfs-share.service zfs-load-key.service; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
mkdir -p "$tree/etc/systemd/journald.conf.d" "$tree/root/.ssh"
printf '[Journal]\nStorage=persistent\nForwardToConsole=no\n' >"$tree/etc/systemd/journald.conf.d/test.conf"

rm -f "$out/key" "$out/key.pub"
ssh-keygen -q -t ed25519 -N '' -C testvm -f "$out/key"
cp "$out/key.pub" "$tree/root/.ssh/authorized_keys"
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*
: >"$tree/etc/machine-id"

# A sparse file: it costs what is in it.
rm -f "$out/disk.img"
truncate -s 8G "$out/disk.img"
mke2fs -q -t ext4 -L root -d "$tree" "$out/disk.img"
