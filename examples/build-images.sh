#!/usr/bin/env bash
# Builds the images of examples/shop as OCI layouts, from Debian's packages and the Go sources
# next to this script. It needs no container engine and no registry.
#
#   examples/build-images.sh [--app-version v2]... [--refresh] [--out DIR]
#
# What comes out:
#   dist/images/shop-web      nginx               Debian base | package | configuration
#   dist/images/shop-db       PostgreSQL          Debian base | package | configuration
#   dist/images/shop-app      the application v1  one static binary
#   dist/images/shop-app-v2   with --app-version v2
#   examples/shop/db_password a random password, once; never committed
#
# The same packages and the same sources give the same digests: every time stamp is at most
# SOURCE_DATE_EPOCH. A second run with nothing changed does nothing. --refresh asks the archive
# for newer package lists first.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repo=$(dirname "$here")
shop=$here/shop
out=$repo/dist/images
cache=$repo/dist/cache/images
# Any fixed moment does; it only has to be the same every time.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1767225600}
export LC_ALL=C.UTF-8

# The packages of each image, by Debian's names. Their versions are those of the release
# that this machine itself runs.
web_packages=nginx
db_packages=postgresql

say() { printf '%s\n' "build-images: $*" >&2; }
die() {
	say "$*"
	exit 1
}
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

versions=(v1)
refresh=no
while [ $# -gt 0 ]; do
	case $1 in
	--app-version)
		[[ ${2:-} =~ ^v[0-9]+$ ]] || die "--app-version wants v1, v2, ...; got '${2:-}'"
		versions+=("$2")
		shift
		;;
	--refresh) refresh=yes ;;
	--out)
		out=${2:?--out wants a folder}
		shift
		;;
	-h | --help)
		usage
		exit 0
		;;
	*)
		usage >&2
		exit 2
		;;
	esac
	shift
done

# as_root runs a command with the privileges that apt needs.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_tools() {
	command -v mmdebstrap >/dev/null && return
	say "installing mmdebstrap"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends mmdebstrap >&2
}

# debian_sources prints the machine's own apt sources that come from Debian, one per line, and
# leaves out everybody else's: an example should not depend on what else is installed here.
debian_sources() {
	# apt expands the words in $(...), not the shell.
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(ORIGIN)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		sed -n 's/^Debian|//p' | sort -u
}

ensure_lists() {
	if [ $refresh = yes ] || [ -z "$(debian_sources)" ]; then
		say "fetching package lists"
		as_root apt-get update -qq
	fi
	[ -n "$(debian_sources)" ] || die "apt knows no source of origin Debian (see: apt-get indextargets)"
}

# digest prints one digest for the names, modes and contents of files and folders.
digest() {
	find "$@" -type f -printf '%m ' -exec sha256sum {} \; | sha256sum | cut -d' ' -f1
}

# lists_digest stands for everything the archive offers.
lists_digest() {
	find /var/lib/apt/lists -maxdepth 1 -name '*Release' -print0 | sort -z | xargs -0r sha256sum | sha256sum
}

# closure prints which packages, in which versions, an image would be made of today.
closure() {
	apt-get -s -qq -o Dir::State::status=/dev/null -o APT::Install-Recommends=false \
		install '?essential' "$@" | grep '^Inst ' | sort
}

# unchanged NAME KEY succeeds when NAME was last made from KEY.
unchanged() { [ "$(cat "$cache/$1.key" 2>/dev/null)" = "$2" ]; }
made() { printf '%s\n' "$2" >"$cache/$1.key"; }

# Left out of every image: what only a person at a terminal reads, and what differs from one
# build to the next without meaning anything. Copyright files stay.
slim=(
	--dpkgopt='path-exclude=/usr/share/doc/*'
	--dpkgopt='path-include=/usr/share/doc/*/copyright'
	--dpkgopt='path-exclude=/usr/share/man/*'
	--dpkgopt='path-exclude=/usr/share/info/*'
	--dpkgopt='path-exclude=/usr/share/locale/*'
	--dpkgopt='path-exclude=/usr/share/i18n/*'
	--dpkgopt='path-exclude=/usr/share/lintian/*'
	--dpkgopt='path-exclude=/usr/share/bash-completion/*'
	--dpkgopt='path-exclude=/usr/lib/*/gconv/*'
	# PostgreSQL's just-in-time compiler weighs more than the rest of the image together;
	# postgresql.conf turns it off.
	--dpkgopt='path-exclude=/usr/lib/*/libLLVM*'
	--dpkgopt='path-exclude=/usr/lib/llvm*'
	--dpkgopt='path-exclude=/usr/lib/*/libz3*'
	--dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/llvmjit*'
	--dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/bitcode/*'
)

# debian_tree NAME [OPTION...] makes NAME.tar, a root file system of Debian's essential packages
# and what the options add. Downloaded packages are kept for the next tree.
debian_tree() {
	local name=$1
	shift
	mkdir -p "$cache/archives"
	# mmdebstrap hands the tree to each hook as $1.
	# shellcheck disable=SC2016
	debian_sources | mmdebstrap --quiet --variant=essential --format=tar "${slim[@]}" "$@" \
		--skip=download/empty --skip=essential/unlink \
		--setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
		--setup-hook="find '$cache/archives' -name '*.deb' -exec cp -t \"\$1/var/cache/apt/archives\" {} +" \
		--customize-hook="cp -n \"\$1\"/var/cache/apt/archives/*.deb '$cache/archives/'" \
		--customize-hook="$here/slim-tree.sh \"\$1\"" \
		'' "$cache/$name.tar.new" -
	mv "$cache/$name.tar.new" "$cache/$name.tar"
}

# config_layer NAME makes NAME-config.tar from the files in shop/NAME/rootfs.
config_layer() {
	tar -C "$shop/$1/rootfs" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
		--numeric-owner --mode='u=rwX,go=rX' -cf "$cache/$1-config.tar" .
}

ocibuild() {
	[ -n "${ocibuild_built:-}" ] || (cd "$repo" && CGO_ENABLED=0 go build -o "$cache/ocibuild" ./examples/ocibuild)
	ocibuild_built=yes
	"$cache/ocibuild" "$@"
}

# ensure_base makes the tree that the Debian images share, once a run.
ensure_base() {
	[ -z "${base_made:-}" ] || return 0
	say "Debian base tree"
	debian_tree base
	base_made=yes
}

# ensure_package_layer NAME ID PACKAGES makes NAME-base.tar and NAME-package.tar if the packages
# or the way to unpack them changed. ID is the number of the image's user, which Debian's
# maintainer scripts would otherwise choose by order of installation.
ensure_package_layer() {
	local name=$1 id=$2 packages=$3 key
	key=$(digest "$0" "$here/prepare-tree.sh" "$here/slim-tree.sh" "$here/ocibuild" "$cache/$name.packages"):$SOURCE_DATE_EPOCH
	if unchanged "$name-package" "$key" && [ -f "$cache/$name-package.tar" ]; then return; fi
	ensure_base
	say "shop-$name: Debian tree with $packages"
	debian_tree "$name" --include="$packages" \
		--essential-hook="$here/prepare-tree.sh \"\$1\" $name $id"
	ocibuild diff -base "$cache/base.tar" -full "$cache/$name.tar" -out "$cache/$name-package.tar"
	# The base of this very layer: the other image's may be newer one day.
	ln -f "$cache/base.tar" "$cache/$name-base.tar"
	rm -f "$cache/$name.tar"
	made "$name-package" "$key"
}

# build_debian_image NAME ID PACKAGES makes the image of one Debian package.
build_debian_image() {
	local name=$1 key
	ensure_package_layer "$@"
	key=$(cat "$cache/$name-package.key"):$(digest "$shop/$name")
	if unchanged "$name" "$key" && [ -f "$out/shop-$name/index.json" ]; then return; fi
	say "shop-$name: image"
	config_layer "$name"
	ocibuild image -out "$out/shop-$name" -name "shop-$name:latest" -config "$shop/$name/image.json" \
		"$cache/$name-base.tar" "$cache/$name-package.tar" "$cache/$name-config.tar" >"$cache/shop-$name.summary"
	made "$name" "$key"
}

# package_keys lists what each Debian image would be made of. Resolving takes seconds, so it happens
# only when the archive offers something else than last time.
package_keys() {
	local lists
	lists=$(lists_digest)
	if ! unchanged lists "$lists"; then
		closure "$web_packages" >"$cache/web.packages"
		closure "$db_packages" >"$cache/db.packages"
		made lists "$lists"
	fi
}

build_debian_images() {
	package_keys
	build_debian_image web 33 "$web_packages"
	build_debian_image db 999 "$db_packages"
}

# build_app VERSION makes the application's image: nothing but the binary and two lines that
# give its user a name.
build_app() {
	local version=$1 name=shop-app tree key
	[ "$version" = v1 ] || name=shop-app-$version
	key=$(digest "$0" "$shop/app" "$here/ocibuild" "$repo/go.mod" "$repo/go.sum"):$SOURCE_DATE_EPOCH:$version:$(go env GOVERSION)
	if unchanged "$name" "$key" && [ -f "$out/$name/index.json" ]; then return; fi
	say "$name: Go binary, version $version"
	tree=$cache/$name
	rm -rf "$tree" && mkdir -p "$tree"
	(cd "$repo" && CGO_ENABLED=0 go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X main.version=$version" -o "$tree/shop-app" ./examples/shop/app)
	cp -R "$shop/app/rootfs/." "$tree/"
	tar -C "$tree" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
		--mode='u=rwX,go=rX' -cf "$tree.tar" .
	ocibuild image -out "$out/$name" -name "shop-app:$version" -config "$shop/app/image.json" "$tree.tar" >"$cache/$name.summary"
	rm -rf "$tree" "$tree.tar"
	made "$name" "$key"
}

# ensure_password writes the database's password once. Whoever has the file has the database.
ensure_password() {
	[ -s "$shop/db_password" ] && return
	(umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$shop/db_password")
	say "wrote a new random password to examples/shop/db_password"
}

mkdir -p "$out" "$cache"
ensure_password
install_tools
ensure_lists
build_debian_images
for version in "${versions[@]}"; do build_app "$version"; done
cat "$cache"/shop-*.summary
