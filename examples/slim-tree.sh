#!/bin/sh
# Run by build-images.sh in a finished tree: takes out what an image does not need once its
# packages are configured, and what is different in every build.
#
#   slim-tree.sh TREE
set -eu
tree=$1

# Differs every time: logs, caches, and a TLS key that nobody should share with other images.
find "$tree/var/log" -type f -delete
rm -rf "$tree/var/cache/apt" "$tree/var/lib/apt" "$tree/var/cache/ldconfig" "$tree/var/cache/debconf"
rm -f "$tree"/etc/ssl/private/ssl-cert-snakeoil.key "$tree"/etc/ssl/certs/ssl-cert-snakeoil.pem
find "$tree/etc/ssl/certs" -xtype l -delete 2>/dev/null || true
rm -f "$tree"/etc/machine-id "$tree"/var/lib/dbus/machine-id "$tree"/etc/resolv.conf "$tree"/etc/hostname
rm -f "$tree"/etc/passwd- "$tree"/etc/group- "$tree"/etc/shadow- "$tree"/etc/gshadow- "$tree"/etc/.pwd.lock
rm -f "$tree"/var/lib/dpkg/*-old "$tree"/var/lib/dpkg/lock*

# Nothing in these images runs perl beyond perl-base: Debian's cluster wrappers are for machines
# with several PostgreSQL versions. /usr/lib/postgresql/current is what the images use.
rm -rf "$tree"/usr/share/perl "$tree"/usr/share/perl5 "$tree"/usr/lib/*-linux-gnu/perl
rm -f "$tree"/usr/lib/*-linux-gnu/libperl.so.*
if [ -d "$tree/usr/lib/postgresql" ]; then
	version=$(find "$tree/usr/lib/postgresql" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort -V | tail -n 1)
	ln -s "$version" "$tree/usr/lib/postgresql/current"
	rm -rf "$tree/usr/lib/postgresql/$version/lib/pgxs"
	install -d -o 999 -g 999 -m 0755 "$tree/var/lib/postgresql"
fi
# The archive's sources are those of the machine that built the image: not part of it.
rm -rf "$tree/etc/apt/sources.list" "$tree/etc/apt/sources.list.d"
