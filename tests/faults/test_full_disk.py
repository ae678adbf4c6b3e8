"""A disk that is full: users are answered, a run says what it lacks, and once there is space `windtunnel up` makes everything go on."""

import os
import re
import shutil

import pytest
from safetensors.numpy import load_file

from serving.backends.catalog import connect
from tests.e2e.conftest import new_platform, up
from tests.serving.conftest import House
from tests.small_disk import mounted
from windtunnel.platform import lifecycle

pytestmark = pytest.mark.minutes(2)
NAME = "lenet5-tensorflow"
PARAMS = ("frameworks=tensorflow", "samples=64", "epochs=1", "benchmark_seconds=0")
RUN = ("run", "lenet5", *(word for param in PARAMS for word in ("--param", param)))
GO_ON = ("supervisor", "mlflow", "torchserve", "tfserving", "speech")
LEFT = 200_000  # bytes: less than any run needs, and enough for the line of a log


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with mounted(tmp_path_factory.mktemp("full") / "disk", "2g") as made:
        yield made


@pytest.fixture(scope="module")
def platform(disk):
    with up(new_platform(disk)) as made:
        yield made
    assert made.processes() == []


def pids_of(platform):
    """The processes that write nothing, or little, and go on."""
    return {process.name: process.pid for process in lifecycle.status(platform.settings) if process.name in GO_ON}


def test_users_are_answered_a_run_says_what_it_lacks_and_up_makes_it_go_on(platform, disk, trained):
    House(platform.settings).register(trained("tensorflow"))
    platform.windtunnel("deploy", NAME)
    golden, server = load_file(trained("tensorflow") / "golden.safetensors"), connect("tfserving", platform.settings)
    pids = pids_of(platform)

    filler = disk / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(disk).free - LEFT)
    said = platform.windtunnel(*RUN, status=1).stderr
    assert re.search("the disk of .* is full: found 0 MiB free, .*`windtunnel up`|No space left on device. Free some space", said), said
    assert server.predict(NAME, golden["image"][:1])["logits"][0].argmax() == golden["label"][0]
    assert pids_of(platform) == pids

    filler.unlink()
    platform.windtunnel("up")
    assert platform.json(*RUN)["state"] == "success"
    assert pids_of(platform) == pids
