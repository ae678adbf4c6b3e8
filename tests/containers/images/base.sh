#!/bin/sh
# Make a Debian image where debian:bookworm-slim cannot be pulled: base.sh TAG, as root. DOCKER names the client.
set -eu
[ $# = 1 ] || { echo "usage: base.sh TAG" >&2; exit 2; }
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
debootstrap --variant=minbase bookworm "$root" >&2 || { tail -5 "$root/debootstrap/debootstrap.log" >&2; exit 1; }
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
tar -C "$root" -c . | ${DOCKER:-docker} import --change 'CMD ["bash"]' - "$1"
