#!/bin/sh
# Prints the version to stamp: that of the tag on a tagged commit, else one that sorts before the
# next release and after every earlier commit's: 0.1.0~COUNT.gHASH.
set -eu
next=0.1.0

if tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
    echo "${tag#v}"
elif hash=$(git rev-parse --short HEAD 2>/dev/null); then
    echo "$next~$(git rev-list --count HEAD).g$hash"
else
    echo "$next~source" # an unpacked archive without its history
fi
