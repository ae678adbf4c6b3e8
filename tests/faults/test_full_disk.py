"""A disk that is full: users are answered, a run says what it lacks, and once there is space `windtunnel up` makes everything go on."""

import os
import re
import shutil
import subprocess

import pytest
from safetensors.numpy import load_file

from serving.backends.catalog import connect
from tests.e2e.conftest import new_platform, up
from tests.serving.conftest import House
from windtunnel.platform import lifecycle

pytestmark = pytest.mark.minutes(2)
NAME = "lenet5-tensorflow"
RUN = (
    "run",
    "lenet5",
    "--param",
    "frameworks=tensorflow",
    "--param",
    "samples=64",
    "--param",
    "epochs=1",
    "--param",
    "benchmark_seconds=0",
)
GO_ON = ("supervisor", "mlflow", "torchserve", "tfserving", "speech")
LEFT = 200_000  # bytes: less than any run needs, and enough for the line of a log


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk of its own, 2 GB in memory of which only what is written is used."""
    if os.geteuid():
        pytest.skip("NO FULL DISK IS TESTED: only root can mount a disk. Run this as root")
    place = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


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
