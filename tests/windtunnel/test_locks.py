"""Locks between processes that are real ones."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import started
from tests.waiting import PATIENCE
from windtunnel.errors import WindtunnelError
from windtunnel.locks import held

HOLDER = """
import sys, time
from pathlib import Path
from windtunnel.locks import held
with held(Path(sys.argv[1]), "the thing", 0):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(file: Path) -> list[str]:
    return [sys.executable, "-c", HOLDER, str(file)]


def test_who_holds_a_lock_is_said_to_who_waits_and_when_the_wait_ends(tmp_path: Path) -> None:
    file = tmp_path / "locks" / "thing"
    said: list[str] = []
    with started(holder(file), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(WindtunnelError) as error, held(file, "the thing", 0.3, said.append):
            pytest.fail("two hold it")
    who = rf"process {process.pid} \({re.escape(sys.executable)} -c .*\) since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S*"
    assert len(said) == 1
    assert re.fullmatch(f"waiting for the thing: locked by {who}", said[0])
    assert re.fullmatch(
        rf"the thing is still locked after 0\.3 s by {who}: wait until that process has ended, or end it \({re.escape(str(file))}\)",
        str(error.value),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_lock_ends_with_its_holder_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "thing"
    with started(holder(file), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        process.wait(PATIENCE)
    with held(file, "the thing", 0, pytest.fail):
        assert str(os.getpid()) in file.read_text()
    with held(file, "the thing", 0, pytest.fail):
        pass
