#!/bin/sh
# Lays out what the package installs below /usr.
#
#   stage.sh BIN STAGE CTL
#
# BIN    folder with the programs of one architecture
# STAGE  folder to make; what was there goes
# CTL    a ployzctl that runs on this computer, which writes completions and man pages
set -eu
bin=$1 stage=$2 ctl=$3

rm -rf "$stage"
mkdir -p "$stage/usr/bin" "$stage/usr/lib/ployz" "$stage/usr/share"

# place installs one program. One whose source is not written yet is left out, aloud.
place() {
    if [ ! -e "$bin/$1" ] && [ ! -e "cmd/$1/main.go" ] && [ "$1" != runc ]; then
        echo "stage.sh: there is no $1 yet: left out" >&2
        return
    fi
    install -m 0755 "$bin/$1" "$stage/$2/"
}
for program in ployzctl ployzd; do
    place "$program" usr/bin
done
for program in ployz-nats ployz-gateway ployz-dns ployz-net ployz-pool ployz-wireguard runc; do
    place "$program" usr/lib/ployz
done

share=$stage/usr/share
completions() {
    mkdir -p "$share/bash-completion/completions" "$share/zsh/vendor-completions" "$share/fish/vendor_completions.d"
    "$ctl" completion bash >"$share/bash-completion/completions/ployzctl"
    "$ctl" completion zsh >"$share/zsh/vendor-completions/_ployzctl"
    "$ctl" completion fish >"$share/fish/vendor_completions.d/ployzctl.fish"
}
man_pages() {
    if ! "$ctl" man --help >/dev/null 2>&1; then
        echo "stage.sh: ployzctl writes no man pages yet: left out" >&2
        return
    fi
    pages=$(mktemp -d)
    "$ctl" man "$pages"
    for page in "$pages"/*.[1-8]; do
        section=$share/man/man${page##*.}
        mkdir -p "$section"
        gzip -9n <"$page" >"$section/${page##*/}.gz"
    done
    rm -rf "$pages"
}
completions
man_pages
find "$stage" -type d -exec chmod 0755 {} +
find "$share" -type f -exec chmod 0644 {} +
