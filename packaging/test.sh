#!/bin/sh
# Runs every tier and ends with one line: N passed, N failed, N skipped. A tier that fails does not
# keep the next from running, so that one run shows all that is wrong.
set -u
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
status=0

step() { printf '\n== %s\n' "$1"; }

step 'format and vet'
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
    printf 'not formatted (run gofmt -w):\n%s\n' "$unformatted"
    status=1
fi
go vet ./... || status=1

step 'unit, contract and kernel tests'
# shellcheck disable=SC2046 # a list of packages
go tool gotestsum --format pkgname --jsonfile "$results/unit.json" -- -timeout 20m \
    $(go list ./... | grep -v /node/nodetest/) || status=1

step 'cluster tests'
# One package at a time: each has machines of its own, and two cores are soon busy.
go tool gotestsum --format pkgname --jsonfile "$results/cluster.json" -- -timeout 40m -p 1 -count=1 \
    ./node/nodetest/... || status=1

step 'slowest'
go run ./packaging/testsum "$results"/*.json || status=1
exit "$status"
