#!/bin/sh
# Fetches the libseccomp of another architecture from Debian and unpacks it, so that runc can be
# linked for it. Nothing of this computer's own package state changes: apt gets folders of its own.
#
#   cross-libs.sh ARCH FOLDER
set -eu
arch=$1 folder=$2

[ ! -e "$folder/complete" ] || exit 0
rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/root"
: >"$folder/apt/status"
apt="apt-get -q -o APT::Architecture=$arch -o APT::Architectures=$arch -o Dir::State=$folder/apt
    -o Dir::State::status=$folder/apt/status -o Dir::State::lists=$folder/apt/lists -o Dir::Cache=$folder/apt/cache
    -o APT::Sandbox::User=root -o Debug::NoLocking=1"
log=$folder/log
(
    # shellcheck disable=SC2086 # a command with its options
    $apt update
    cd "$folder/apt"
    # shellcheck disable=SC2086
    $apt download libseccomp-dev libseccomp2
) >"$log" 2>&1 || { cat "$log" >&2 && exit 1; }
for deb in "$folder"/apt/*.deb; do
    dpkg-deb -x "$deb" "$folder/root"
done
# Its .pc file names places below /, which pkg-config puts the folder before.
rm -rf "$folder/apt"
touch "$folder/complete"
