"""One engine and one stack for all tests of containers: building the images takes minutes, starting the stack one."""

import os
import subprocess

import pytest

from tests.containers.engine import Unavailable, find_or_start
from tests.containers.stack import Stack, write_data
from windtunnel import __version__
from windtunnel.settings import ROOT

BUILD_SECONDS = 5000


def pytest_terminal_summary(terminalreporter):
    """Show what the tests have measured."""
    measured = [found for report in terminalreporter.stats.get("passed", []) for found in report.user_properties]
    if measured:
        terminalreporter.section("measured")
    for name, value in measured:
        terminalreporter.line(f"{name}: {value}")


@pytest.fixture(scope="package")
def engine():
    try:
        with find_or_start() as found:
            yield found
    except Unavailable as error:
        pytest.skip(f"NO CONTAINER IS TESTED: {error}")


@pytest.fixture(scope="package")
def images(engine):
    """The project's images and those it stands on, built where they cannot be pulled: as variables of the compose file."""
    here = ROOT / "tests" / "containers" / "images"
    names = {"BASE_IMAGE": "windtunnel-test/debian", "POSTGRES_IMAGE": "windtunnel-test/postgres", "REDIS_IMAGE": "windtunnel-test/redis"}
    chosen = {name: os.environ.get(name, image) for name, image in names.items()}
    environment = engine.environment | chosen | {"WINDTUNNEL_IMAGES": "windtunnel-test", "WINDTUNNEL_IMAGE_TAG": __version__}
    if not engine.has(chosen["BASE_IMAGE"]):
        subprocess.run([here / "base.sh", chosen["BASE_IMAGE"]], env=environment, check=True, timeout=BUILD_SECONDS)
    for name in ("POSTGRES_IMAGE", "REDIS_IMAGE"):
        if chosen[name] == names[name]:
            folder = here / name.removesuffix("_IMAGE").lower()
            build = ["build", "-q", "--network=host", "--build-arg", f"BASE_IMAGE={chosen['BASE_IMAGE']}", "-t", chosen[name], str(folder)]
            subprocess.run([engine.client, *build], env=environment | {"DOCKER_BUILDKIT": "1"}, check=True, timeout=BUILD_SECONDS)
    subprocess.run([ROOT / "scripts" / "images.sh"], env=environment, check=True, timeout=BUILD_SECONDS)
    tfserving = {"TFSERVING_IMAGE": os.environ.get("TFSERVING_IMAGE", f"windtunnel-test/serving:{__version__}")}
    return chosen | tfserving | {"WINDTUNNEL_IMAGES": "windtunnel-test", "WINDTUNNEL_IMAGE_TAG": __version__}


@pytest.fixture(scope="module")
def swarm(engine):
    """The engine as a Swarm of one node, unless it is in one already."""
    if engine.docker("info", "--format", "{{.Swarm.LocalNodeState}}") == "active":
        yield
        return
    engine.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        yield
    finally:
        engine.docker("swarm", "leave", "--force")


@pytest.fixture(scope="package")
def stack(engine, images, tmp_path_factory):
    """The whole platform, up from empty volumes; nothing of it is left in the end."""
    home = tmp_path_factory.mktemp("home")
    data = home / "data"  # which, unlike what is above it, other users can read
    data.mkdir()
    write_data(data)
    stack = Stack(engine, f"windtunnel-test-{os.getpid()}", images, home, data)
    try:
        stack.seconds_to_healthy = stack.up()
        yield stack
    finally:
        stack.down("--volumes")
