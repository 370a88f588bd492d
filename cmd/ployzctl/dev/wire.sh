#!/bin/sh
# Puts a wire in the place of a machine's cable, in the lab's network namespace.
#
#   wire.sh CGROUP MACHINE PORT PROGRAM...
#
# CGROUP   v2 folder to run in
# PORT     the TAP device that takes the cable's place at the bridge
# PROGRAM  carries the frames between the two
set -eu
cgroup=$1 machine=$2 port=$3
shift 3

mkdir -p "$cgroup"
echo $$ >"$cgroup/cgroup.procs"
exec 3>&- # the lock of the lab: now that we are in its cgroup, down finds us

# Fresh, so that it is up only once the program has it.
ip link del "$port" 2>/dev/null || true
ip tuntap add mode tap vnet_hdr name "$port"
ip link set "$port" master lab0 up
# The machine may be off; its boot leaves the cable to a port that is there.
ip link set "$machine" nomaster 2>/dev/null || true
exec "$@"
