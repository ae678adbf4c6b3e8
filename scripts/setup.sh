#!/bin/sh
# Everything that `make run` needs: system packages, .venv, the C++ trainer. Does only what is missing; the second time it takes about a
# second and needs no network. What else is needed, `make test` and `make figures` say: `setup.sh COMMAND=PACKAGE…`.
set -eu
cd "$(dirname "$0")/.."
also=$*

say() { printf '\033[1m%s\033[0m\n' "$*"; }
fail() { echo "error: $*" >&2; exit 1; }

# install PACKAGE…: with apt-get, if that is possible without asking for a password.
install() {
    if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; else return 1; fi
    command -v apt-get >/dev/null || return 1
    apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y"
    say "Installing $*"
    $apt install --no-install-recommends "$@" || { $apt update && $apt install --no-install-recommends "$@"; }
}

# The first Python that can make a virtual environment of a version we support.
find_python() {
    for python in python3 python3.12 python3.11; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

has_header() { echo "#include <$1>" | g++ -E -x c++ - >/dev/null 2>&1; }

missing_packages() {
    for each in $also; do command -v "${each%=*}" >/dev/null || echo "${each#*=}"; done
    [ -x .venv/bin/python ] || [ -n "$(find_python)" ] || echo python3 python3-venv
    command -v git >/dev/null || echo git
    command -v make >/dev/null || echo make
    command -v g++ >/dev/null || echo g++
    command -v curl >/dev/null || echo curl
    command -v ab >/dev/null || echo apache2-utils
    has_header openssl/evp.h || echo libssl-dev
    has_header zlib.h || echo zlib1g-dev
    has_header nlohmann/json.hpp || echo nlohmann-json3-dev
    has_header doctest/doctest.h || echo doctest-dev
}

system_packages() {
    missing=$(missing_packages | tr '\n' ' ')
    [ -z "$missing" ] && return
    # shellcheck disable=SC2086  # several packages
    install $missing || true
    [ -x .venv/bin/python ] || [ -n "$(find_python)" ] ||
        fail "Python 3.11 or 3.12 with venv is needed, found $(python3 --version 2>&1): install one, such as the package python3.12-venv"
    missing=$(missing_packages | tr '\n' ' ')
    [ -z "$missing" ] || fail "not found: ${missing% }; install with: sudo apt-get update && sudo apt-get install ${missing% }"
}

python_environment() {
    wanted=$(cat pyproject.toml constraints.txt | sha256sum)
    [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ] && return
    say "Installing Python packages into .venv: some minutes, some gigabytes"
    [ -x .venv/bin/pip ] || "$(find_python)" -m venv .venv
    .venv/bin/pip install --disable-pip-version-check -e '.[airflow,train-server,torchserve,serving,tracking,dev]' -c constraints.txt
    echo "$wanted" > .venv/installed
}

# Where neither MNIST nor Fashion-MNIST is at hand, Debian and Ubuntu have the latter as a package. MNIST may still be downloaded.
data_set() {
    .venv/bin/python -c 'import sys; from windtunnel.datasets import KNOWN, find; sys.exit(not any(map(find, KNOWN.values())))' ||
        install dataset-fashion-mnist || true
}

cpp_trainer() {
    build=libtorch_cpp/build
    if [ ! -f $build/build.ninja ]; then
        say "Building the C++ trainer: a minute or two"
        .venv/bin/cmake -S libtorch_cpp -B $build -G Ninja -DCMAKE_MAKE_PROGRAM="$PWD/.venv/bin/ninja" \
            -DCMAKE_PREFIX_PATH="$(.venv/bin/python -c 'import torch; print(torch.utils.cmake_prefix_path)')"
    fi
    .venv/bin/cmake --build $build
}

system_packages
python_environment
data_set
cpp_trainer
