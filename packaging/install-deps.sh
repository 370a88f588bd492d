#!/bin/sh
# Installs what a task needs from Debian's archive, by name, and only what is missing.
#
#   install-deps.sh GROUP...
#
# build   make build, make deb, make rpm for this computer's architecture
# cross   the other architecture's runc
# dev     ployzctl dev: machines, and the client's tools
# test    make test (brings build and dev along)
# vm      the tier with a real kernel
set -eu

packages_of() {
    case $1 in
    build) echo gcc libc6-dev libseccomp-dev pkg-config git ca-certificates ;;
    cross) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
    dev) echo systemd systemd-container dbus iproute2 nftables e2fsprogs util-linux mawk curl bind9-dnsutils mmdebstrap tar xz-utils ;;
    test) packages_of build && packages_of dev && echo shellcheck jq btrfs-progs openssh-client ;;
    vm) echo qemu-system-x86 qemu-utils e2fsprogs mmdebstrap openssh-client util-linux ;;
    *) echo "install-deps.sh: no group '$1': build, cross, dev, test or vm" >&2 && exit 2 ;;
    esac
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# A group that does not exist must end the script, which it would not from inside the loop's own $().
wanted=$(for group in "$@"; do packages_of "$group"; done)
missing=
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "install-deps.sh: this is no Debian; please install:$missing" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "install-deps.sh: needs root to run: apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
if ! { apt-get -q update && apt-get -q -y install --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
