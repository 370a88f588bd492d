#!/bin/sh
# After unpacking. First install: enable and start ployzd. Upgrade: restart ployzd and nothing else.
#
# deb: postinst configure [OLD-VERSION]      rpm: %post 1 (install) or 2 (upgrade)
set -eu

case "${1:-}" in
configure) first=$([ -z "${2:-}" ] && echo yes || echo no) ;;
1) first=yes ;;
2) first=no ;;
*) exit 0 ;; # abort-upgrade and its like: what was running still is
esac

systemd-sysusers ployz.conf
systemd-tmpfiles --create ployz.conf || true # in a chroot some of it cannot be done, nor need be

if [ "$first" = yes ]; then
    # Later installs leave this as the administrator has it.
    systemctl --quiet enable ployzd.socket ployzd.service
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
modprobe --quiet --all overlay 2>/dev/null || true # as at each boot from here on; a container has its host's

# deb-systemd-invoke heeds policy-rc.d, by which an administrator forbids starts.
invoke=systemctl
if command -v deb-systemd-invoke >/dev/null; then invoke=deb-systemd-invoke; fi
if systemctl --quiet is-enabled ployzd.service; then
    $invoke start ployzd.socket || true
    # A daemon that does not start must not leave the package half installed: it says itself why.
    $invoke restart ployzd.service || echo "ployzd did not start: see journalctl -u ployzd" >&2
fi
if [ "$first" = yes ]; then
    echo "Ployz is installed. Found a cluster on this machine with: ployzctl init"
fi
