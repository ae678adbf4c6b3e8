#!/bin/sh
# Common steps of the Dockerfile's stages. The optional build secret `ca` contains the certificates that APT and pip trust.
#   install.sh debian PACKAGE…      install Debian packages
#   install.sh user                 create the user windtunnel, and in its home a directory for each volume
#   install.sh venv                 create /opt/venv with the installers of Python packages
#   install.sh requirements         write for each extra in pyproject.toml the file /requirements/EXTRA.txt: the dependencies and the extra
#   install.sh python               install the packages in /requirements.txt into /opt/venv, in the versions of constraints.txt
#   install.sh code                 install the project's own packages into /opt/windtunnel
#   install.sh clean                remove installers, tests and library symbols from /opt/venv, and compile the modules
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
    mkdir /requirements
    python3 - <<'END'
import tomllib
project = tomllib.load(open("/pyproject.toml", "rb"))["project"]
for extra, packages in project["optional-dependencies"].items():
    print(*project["dependencies"], *packages, sep="\n", file=open(f"/requirements/{extra}.txt", "w"))
END
}

python() {
    . /packages.sh
    tensorflow=$(sed -n 's/^tensorflow==//p' /requirements.txt)
    [ -z "$tensorflow" ] || tensorflow_cpu "$tensorflow"
    install_packages /opt/venv/bin/python --requirement /requirements.txt
}

# Install TensorFlow without CUDA, a distribution with another name and less than half the size. Rename it to tensorflow, so that
# packages that depend on TensorFlow find it.
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
    # Symbols are a quarter of the frameworks' libraries. Other libraries, which patchelf has changed, would not load after strip.
    find . -type f \( -path './tensorflow/lib*.so*' -o -path './torch/lib/*.so' \) -exec strip --strip-unneeded {} +
    $pip uninstall --yes hatchling uv wheel pip
    /opt/venv/bin/python -m compileall -q -j 0 "$PWD" >/dev/null 2>&1 || true  # some packages contain files for other versions of Python
}

"$@"
