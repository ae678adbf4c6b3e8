#!/bin/sh
# Install everything that `make run` needs: system packages, .venv, the C++ trainers. Only missing parts are installed: a second run takes
# about a second and needs no network. `make test` and `make figures` request additional packages: `setup.sh COMMAND=PACKAGE…`.
set -eu
cd "$(dirname "$0")/.."
also=$*
constraints=constraints.txt
. scripts/packages.sh

say() { if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else echo "$*"; fi; }
fail() { echo "error: $*" >&2; exit 1; }

# Let only one setup run at a time, until it and its child processes have ended. .venv is not in git.
one_at_a_time() {
    mkdir -p .venv
    exec 9>> .venv/lock
    flock -n 9 || {
        say "Waiting for another setup of $PWD to end: $(cat .venv/lock)"
        flock -w 3600 9 || fail "another setup of $PWD has not ended within an hour: $(cat .venv/lock). Wait until it has, or end it"
    }
    echo "process $$ since $(date '+%F %T')" > .venv/lock
}

# These characters have a special meaning in PATH, CMake or Airflow.
folder() {
    case $PWD in *[:\;\$]*) fail "the path of the project's folder contains ':', ';' or '\$': found $PWD. Move it to another path" ;; esac
}

# install PACKAGE…: install packages with apt-get, if that is possible without asking for a password.
install() {
    if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; else return 1; fi
    command -v apt-get >/dev/null || return 1
    apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600" # wait for another apt-get
    say "Installing $*"
    $apt install --no-install-recommends "$@" || { $apt update && $apt install --no-install-recommends "$@"; }
}

# Print the first Python of a supported version that can create virtual environments.
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
        fail "no suitable Python: found $(python3 --version 2>&1), expected 3.11 or 3.12 with venv. Install, for example, python3.12-venv"
    missing=$(missing_packages | tr '\n' ' ')
    [ -z "$missing" ] || fail "missing packages: ${missing% }. Install them with: sudo apt-get update && sudo apt-get install ${missing% }"
}

python_environment() {
    wanted=$(cat pyproject.toml constraints.txt | sha256sum)
    [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ] && return
    say "Installing Python packages into .venv: this takes some minutes and some gigabytes"
    .venv/bin/python -m pip --version >/dev/null 2>&1 || "$(find_python)" -m venv .venv
    install_packages .venv/bin/python --editable '.[airflow,train-server,torchserve,serving,tracking,dev]'
    rm -rf windtunnel.egg-info # from a build with setuptools; Airflow would find every plugin twice
    .venv/bin/python scripts/relocatable.py
    echo "$wanted" > .venv/installed
    compile_modules &
}

# Compile on all cores, in the background. Errors are ignored, because some packages contain files for other versions of Python.
compile_modules() { .venv/bin/python -m compileall -q -j 0 -x '/tests?/' "$PWD/.venv/lib" >/dev/null 2>&1 || true; }

# Recreate the activation scripts of .venv if the project's folder was moved or copied.
activation() {
    grep -qsF "$PWD/.venv" .venv/bin/activate && return
    rm -f .venv/bin/activate*
    .venv/bin/python -m venv --without-pip .venv
}

# If neither MNIST nor Fashion-MNIST is found, install the package of Debian and Ubuntu for the latter. MNIST may still be downloaded later.
data_set() {
    .venv/bin/python -c 'import sys; from windtunnel.data.datasets import KNOWN, find; sys.exit(not any(map(find, KNOWN.values())))' ||
        install dataset-fashion-mnist || true
}

cpp_trainer() {
    build=libtorch_cpp/build
    grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD/libtorch_cpp" $build/CMakeCache.txt || rm -rf $build # from another folder, or missing
    if [ ! -f $build/build.ninja ]; then
        say "Building the C++ trainers: this takes a minute or two"
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
