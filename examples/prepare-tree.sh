#!/bin/sh
# Run by build-images.sh in a tree that has the essential packages and nothing else yet:
# gives the image's user a fixed number, and keeps packages from starting things.
#
#   prepare-tree.sh TREE web|db ID
set -eu
tree=$1 name=$2 id=$3

if [ "$name" = db ]; then
	# Debian would take the next free number, which moves with the order of installation.
	echo "postgres:x:$id:" >>"$tree/etc/group"
	echo "postgres:x:$id:$id:PostgreSQL administrator:/var/lib/postgresql:/bin/sh" >>"$tree/etc/passwd"
	# The entrypoint makes the database, so that it belongs to the instance and not to the image.
	mkdir -p "$tree/etc/postgresql-common"
	echo 'create_main_cluster = false' >"$tree/etc/postgresql-common/createcluster.conf"
fi
