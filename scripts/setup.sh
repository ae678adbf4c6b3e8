#!/bin/sh
# Everything that `make run` needs: system packages, .venv, the C++ trainer. Does only what is missing; the second time it takes about a
# second and needs no network. What else is needed, `make test` and `make figures` say: `setup.sh COMMAND=PACKAGE…`.
set -eu
cd "$(dirname "$0")/.."
also=$*
constraints=constraints.txt
. scripts/packages.sh

say() { if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else echo "$*"; fi; }
fail() { echo "error: $*" >&2; exit 1; }

# One at a time, until this and what it has started have ended. What is in .venv is not in git.
one_at_a_time() {
    mkdir -p .venv
    exec 9>> .venv/lock
    flock -n 9 || {
        say "Waiting for another setup of $PWD to end: $(cat .venv/lock)"
        flock -w 3600 9 || fail "another setup of $PWD has not ended within an hour: $(cat .venv/lock). Wait until it has, or end it"
    }
    echo "process $$ since $(date '+%F %T')" > .venv/lock
}

# PATH, CMake and Airflow give these characters a meaning.
folder() {
    case $PWD in *[:\;\$]*) fail "the project's folder has a name with ':', ';' or '\$': found $PWD. Move it to another" ;; esac
}

# install PACKAGE…: with apt-get, if that is possible without asking for a password.
install() {
    if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; else return 1; fi
    command -v apt-get >/dev/null || return 1
    apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600" # another may be installing
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
    .venv/bin/python -m pip --version >/dev/null 2>&1 || "$(find_python)" -m venv .venv
    install_packages .venv/bin/python --editable '.[airflow,train-server,torchserve,serving,tracking,dev]'
    rm -rf windtunnel.egg-info # of a build by setuptools, in which Airflow finds every plugin again
    .venv/bin/python scripts/relocatable.py
    echo "$wanted" > .venv/installed
    compile_modules &
}

# On all cores and beside what comes next.
compile_modules() { .venv/bin/python -m compileall -q -j 0 -x '/tests?/' "$PWD/.venv/lib" >/dev/null 2>&1 || true; } # some packages hold files of other Pythons

# Of a folder that was moved or copied: the shell's way into .venv.
activation() {
    grep -qsF "$PWD/.venv" .venv/bin/activate && return
    rm -f .venv/bin/activate*
    .venv/bin/python -m venv --without-pip .venv
}

# Where neither MNIST nor Fashion-MNIST is at hand, Debian and Ubuntu have the latter as a package. MNIST may still be downloaded.
data_set() {
    .venv/bin/python -c 'import sys; from windtunnel.datasets import KNOWN, find; sys.exit(not any(map(find, KNOWN.values())))' ||
        install dataset-fashion-mnist || true
}

cpp_trainer() {
    build=libtorch_cpp/build
    grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD/libtorch_cpp" $build/CMakeCache.txt || rm -rf $build # of another folder, or none
    if [ ! -f $build/build.ninja ]; then
        say "Building the C++ trainer: a minute or two"
        .venv/bin/cmake -S libtorch_cpp -B $build -G Ninja -DCMAKE_MAKE_PROGRAM="$PWD/.venv/bin/ninja" \
            -DCMAKE_PREFIX_PATH="$(.venv/bin/python -c 'import torch; print(torch.utils.cmake_prefix_path)')"
    fi
    .venv/bin/cmake --build $build
}

folder
one_at_a_time
system_packages
python_environment
activation
data_set
cpp_trainer
wait
