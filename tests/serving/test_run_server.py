"""A model server and the program that runs it, called its keeper here, end together, whichever is killed."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from tests.processes import has_ended
from tests.waiting import PATIENCE, wait_for
from windtunnel.platform.ports import platform_ports
from windtunnel.platform.processes import GONE
from windtunnel.settings import Settings

pytestmark = pytest.mark.minutes(1)


@pytest.fixture
def keeper(tmp_path):
    settings = Settings(home=tmp_path, schedule=None, **platform_ports())
    command = [sys.executable, "-m", "serving.run_server", "tfserving"]
    with subprocess.Popen(command, env=os.environ | settings.variables, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def children(keeper):
    """The server, and the program that reconciles it."""

    def started():
        found = {}
        for process in psutil.Process(keeper.pid).children():
            with suppress(*GONE):
                found[" ".join(process.cmdline())] = process
        return [
            next((each for line, each in found.items() if word in line), None)
            for word in ("tfserving_embedded", "serving.release.reconcile")
        ]

    return wait_for(lambda: all(started()) and started())


def test_a_keeper_ends_with_its_server_and_says_so(keeper):
    server, reconciling = children(keeper)
    server.send_signal(signal.SIGKILL)
    _, errors = keeper.communicate(timeout=PATIENCE)
    assert (keeper.returncode, errors.splitlines()[-1]) == (1, "tfserving ended with status -9")
    wait_for(lambda: has_ended(reconciling))


def test_what_a_keeper_has_only_just_started_ends_with_it(keeper):
    """Before either has run a line of its own."""
    processes = wait_for(lambda: len(found := psutil.Process(keeper.pid).children()) == 2 and found)
    keeper.kill()
    wait_for(lambda: all(map(has_ended, processes)))


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_ends_with_its_keeper(keeper, signal_number):
    processes = children(keeper)
    keeper.send_signal(signal_number)
    wait_for(lambda: all(map(has_ended, processes)))
