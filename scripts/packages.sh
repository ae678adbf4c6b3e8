# Python packages by uv, which takes a tenth of pip's time, from where pip is told that they are. This file is sourced.
# shellcheck shell=sh disable=SC2086  # values are lists

# setting NAME: what pip is told, by the environment or else by its files, on one line.
setting() {
    told=$(printenv "PIP_$(echo "$1" | tr a-z- A-Z_)") ||
        told=$("${python:-python3}" -m pip config list 2>/dev/null | sed -nE "s/^(global|install)\.$1='(.*)'\$/\2/p" | sed 's/\\n/ /g')
    echo $told
}

# install_packages PYTHON ARGUMENT…: install into a Python's virtual environment what `pip install` would. Where uv cannot, pip does:
# it knows more places that settings come from.
install_packages() {
    python=$1
    shift
    "$python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" uv && with_uv "$@" && return
    echo "uv could not install the packages, so pip does"
    "$python" -m pip install --disable-pip-version-check --no-compile --constraint "$constraints" "$@"
}

# with_uv ARGUMENT…: pip's settings under uv's names; what uv itself is told stands before them.
with_uv() (
    index=$(setting index-url) more=$(setting extra-index-url) links=$(setting find-links) trusted=$(setting trusted-host) ca=$(setting cert)
    export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY-unsafe-best-match}" # as pip: the best that any of them has
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX-$index}"
    [ -z "$more" ] || export UV_INDEX="${UV_INDEX-$more}"
    [ -z "$links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS-$(echo $links | tr ' ' ,)}"
    [ -z "$trusted" ] || export UV_INSECURE_HOST="${UV_INSECURE_HOST-$trusted}"
    [ -z "$ca" ] || export SSL_CERT_FILE="${SSL_CERT_FILE-$ca}"
    "$python" -m uv pip install --python "$python" --constraint "$constraints" "$@"
)
