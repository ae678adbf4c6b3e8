# Install Python packages with uv, which takes a tenth of pip's time, from the sources that pip is configured for. This file is sourced.
# shellcheck shell=sh disable=SC2086  # values are lists

# setting NAME: print a setting of pip, from the environment or else from its configuration files, on one line.
setting() {
    told=$(printenv "PIP_$(echo "$1" | tr a-z- A-Z_)") ||
        told=$("${python:-python3}" -m pip config list 2>/dev/null | sed -nE "s/^(global|install)\.$1='(.*)'\$/\2/p" | sed 's/\\n/ /g')
    echo $told
}

# install_packages PYTHON ARGUMENT…: do what `pip install ARGUMENT…` does in a Python's virtual environment. If uv fails, use pip, which
# reads settings from more places.
install_packages() {
    python=$1
    shift
    "$python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" uv && with_uv "$@" && return
    echo "uv could not install the packages: using pip"
    "$python" -m pip install --disable-pip-version-check --no-compile --constraint "$constraints" "$@"
}

# with_uv ARGUMENT…: install with uv, with pip's settings under uv's names. Settings for uv itself take precedence.
with_uv() (
    index=$(setting index-url) more=$(setting extra-index-url) links=$(setting find-links) trusted=$(setting trusted-host) ca=$(setting cert)
    export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY-unsafe-best-match}" # like pip: the best version in any index
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX-$index}"
    [ -z "$more" ] || export UV_INDEX="${UV_INDEX-$more}"
    [ -z "$links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS-$(echo $links | tr ' ' ,)}"
    [ -z "$trusted" ] || export UV_INSECURE_HOST="${UV_INSECURE_HOST-$trusted}"
    [ -z "$ca" ] || export SSL_CERT_FILE="${SSL_CERT_FILE-$ca}"
    "$python" -m uv pip install --python "$python" --constraint "$constraints" "$@"
)
