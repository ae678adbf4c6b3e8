#!/bin/sh
# The steps that the Dockerfiles share. The build secret `ca`, where it is given, holds the certificates that APT and pip trust.
#   install.sh debian PACKAGE…      packages of Debian
#   install.sh user                 the user windtunnel, and in its home a directory for each volume
#   install.sh venv                 /opt/venv, with what installs Python packages
#   install.sh requirements EXTRA   /requirements.txt: what pyproject.toml asks for, with one of its extras
#   install.sh python               those, in the versions of constraints.txt, into /opt/venv
#   install.sh code                 the project's own packages, into /opt/windtunnel
#   install.sh clean                no installers and no tests in /opt/venv, no symbols in its libraries; what is left is compiled
set -eu

ca=/run/secrets/ca
[ ! -f $ca ] || export PIP_CERT=$ca
pip=/opt/venv/bin/pip
constraints=/constraints.txt
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CONSTRAINT=$constraints

debian() {
    apt="apt-get -q -y -o Acquire::Retries=3"
    [ ! -f $ca ] || apt="$apt -o Acquire::https::CAInfo=$ca"
    $apt update
    $apt install --no-install-recommends "$@"
}

user() {
    home=/var/lib/windtunnel
    groupadd --gid 10001 windtunnel
    useradd --uid 10001 --gid 10001 --home-dir $home --shell /usr/sbin/nologin windtunnel
    for directory in runs serving tensorboard secrets logs data mlruns; do mkdir -p $home/$directory; done
    chown -R windtunnel:windtunnel $home
}

venv() {
    python3 -m venv /opt/venv
    $pip install pip setuptools wheel hatchling
}

requirements() {
    python3 - "$1" > /requirements.txt <<'END'
import sys, tomllib
project = tomllib.load(open("/pyproject.toml", "rb"))["project"]
print(*project["dependencies"], *project["optional-dependencies"][sys.argv[1]], sep="\n")
END
}

python() {
    . /packages.sh
    tensorflow=$(sed -n 's/^tensorflow==//p' /requirements.txt)
    [ -z "$tensorflow" ] || tensorflow_cpu "$tensorflow"
    install_packages /opt/venv/bin/python --requirement /requirements.txt
}

# TensorFlow without CUDA is a distribution of another name, and less than half as large. It goes by TensorFlow's own here, so
# that what asks for TensorFlow finds it.
tensorflow_cpu() {
    install_packages /opt/venv/bin/python --no-deps "tensorflow-cpu==$1"
    cd /opt/venv/lib/python3*/site-packages
    mv "tensorflow_cpu-$1.dist-info" "tensorflow-$1.dist-info"
    sed -i 's/^Name: tensorflow.cpu$/Name: tensorflow/' "tensorflow-$1.dist-info/METADATA"
}

code() {
    $pip install --no-deps --no-build-isolation --no-cache-dir --target /opt/windtunnel /code
}

clean() {
    cd /opt/venv/lib/python3*/site-packages
    # shellcheck disable=SC2048,SC2086  # patterns
    rm -r $*
    find . -depth -type d -name tests -exec rm -r {} +
    find . -type f \( -name '*.a' -o -name '*.pyx' -o -name '*.pxd' \) -delete
    # Symbols are a quarter of the frameworks' libraries. Many another would not load any more, having been changed by patchelf.
    find . -type f \( -path './tensorflow/lib*.so*' -o -path './torch/lib/*.so' \) -exec strip --strip-unneeded {} +
    $pip uninstall --yes hatchling uv wheel pip
    /opt/venv/bin/python -m compileall -q -j 0 "$PWD" >/dev/null 2>&1 || true  # some packages hold files of other Pythons
}

"$@"
