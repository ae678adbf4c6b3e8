#!/bin/sh
# Build the images: scripts/images.sh [NAME…], by default all of them. Unchanged layers come from the engine's cache.
# DOCKER is the client command, BASE_IMAGE another base image, WINDTUNNEL_IMAGES and WINDTUNNEL_IMAGE_TAG other names for the images.
# The builds also use pip's settings and the certificates that this machine is configured to trust.
# shellcheck disable=SC2034,SC2046,SC2086  # values are lists, and the loop in `build` refers to them by name
set -eu
cd "$(dirname "$0")/.."

docker=${DOCKER:-docker}
images="airflow docker-proxy serving torchserve tracking train_server" # targets of the Dockerfile
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' windtunnel/__init__.py)
fail() { echo "error: $*" >&2; exit 1; }

. scripts/packages.sh

# reachable WORD…: print the words that are URLs, without folders of this machine, which a build cannot read.
reachable() {
    for word in "$@"; do case $word in http://* | https://*) echo "$word" ;; esac; done | xargs
}

# holders: print the processes that hold the lock, according to the kernel.
holders() { awk -v "inode=:$(stat -c %i scripts/images.sh)$" '$2 == "FLOCK" && $6 ~ inode { print $5 }' /proc/locks | xargs; }

# serve FOLDER: serve a folder over HTTP to the builds, which use this machine's network, and set $served to its address. The port is
# always the same for a folder, because a new address would invalidate the build cache; so only one of these scripts can build at a time.
serve() {
    [ -n "$servers" ] || flock -w 3600 9 || fail "another $0 has been building for an hour, process $(holders): wait until it has ended, or end it"
    port=$((20000 + $(echo "$1" | cksum | cut -d ' ' -f 1) % 10000))
    python3 -m http.server --bind 127.0.0.1 --directory "$1" $port >/dev/null 2>&1 9<&- &
    servers="$servers $!"
    served=http://127.0.0.1:$port/
}

build() {
    case " $images " in *" $1 "*) ;; *) fail "there is no image $1: choose from $images" ;; esac
    target=$1
    image=${WINDTUNNEL_IMAGES:-windtunnel}/$1:${WINDTUNNEL_IMAGE_TAG:-$version}
    echo "Building $image"
    set --
    for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_TRUSTED_HOST; do
        eval "value=\$$name"
        [ -z "$value" ] || set -- "$@" --build-arg "$name=$value"
    done
    [ -z "${BASE_IMAGE-}" ] || set -- "$@" --build-arg "BASE_IMAGE=$BASE_IMAGE"
    [ -z "$ca" ] || set -- "$@" --secret "id=ca,src=$ca"
    DOCKER_BUILDKIT=1 $docker build --network=host "$@" --build-arg "WINDTUNNEL_VERSION=$version" --build-arg "WINDTUNNEL_COMMIT=$commit" \
        --tag "$image" --target "$target" . 9<&- || fail "$image could not be built"
}

commit=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null) || commit=unknown
ca=${PIP_CERT:-${REQUESTS_CA_BUNDLE:-${CURL_CA_BUNDLE:-${SSL_CERT_FILE:-}}}}
PIP_INDEX_URL=$(reachable $(setting index-url))
PIP_EXTRA_INDEX_URL=$(reachable $(setting extra-index-url))
PIP_TRUSTED_HOST=$(setting trusted-host)
links=$(setting find-links)
servers=
exec 9< scripts/images.sh
trap 'kill $servers 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT TERM
PIP_FIND_LINKS=$(reachable $links)
for link in $links; do
    folder=${link#file://}
    [ ! -d "$folder" ] || { serve "$folder"; PIP_FIND_LINKS="$served $PIP_FIND_LINKS"; }
done

[ $# -gt 0 ] || set -- $images
for name in "$@"; do build "$name"; done
