#!/bin/sh
# Before files go. Upgrade: nothing, everything keeps running. Remove: stop ployzd only, and say
# what stays.
#
# deb: prerm remove | upgrade NEW-VERSION      rpm: %preun 0 (remove) or 1 (upgrade)
set -eu

case "${1:-}" in
remove | 0) ;;
*) exit 0 ;;
esac
[ -d /run/systemd/system ] || exit 0

systemctl stop ployzd.socket ployzd.service || true

# Ours are the units that ployzd wrote; others of a similar name are not.
running=
for file in $(grep -ls '^X-Ployz-Identity=' /etc/systemd/system/ployz-*.service || true); do
    unit=${file##*/}
    if systemctl --quiet is-active "$unit"; then running="$running $unit"; fi
done
if [ -n "$running" ]; then
    echo "ployzd is stopped. These keep running, with their data in /var/lib/ployz, until the next boot:"
    for unit in $running; do echo "  $unit"; done
    echo "They do not start again without the package. To stop them and remove everything: apt-get purge ployz"
fi
