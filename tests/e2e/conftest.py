"""Real platforms on free ports, each with a home of its own."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.processes import started
from tests.waiting import PATIENCE, RUN_PATIENCE
from windtunnel.platform.ports import platform_ports
from windtunnel.platform.processes import GONE
from windtunnel.settings import ROOT, Settings, defaults

WINDTUNNEL = str(Path(sys.executable).parent / "windtunnel")


@dataclass(frozen=True)
class Platform:
    """A home and its ports; `windtunnel` is the command line with these settings, `program` its file."""

    settings: Settings
    program: str = WINDTUNNEL

    @property
    def environment(self):
        return os.environ | {"TERM": "xterm"} | self.settings.variables

    def windtunnel(self, *arguments, status=0):
        done = subprocess.run([self.program, *arguments], env=self.environment, capture_output=True, text=True, timeout=RUN_PATIENCE)
        assert done.returncode == status, f"exit status {done.returncode}, wanted {status}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments, stderr=subprocess.PIPE):
        """The same, running, in a context: for what is done to it meanwhile."""
        return started([self.program, *arguments], env=self.environment, stdout=subprocess.DEVNULL, stderr=stderr, text=True)

    def json(self, *arguments, status=0):
        return json.loads(self.windtunnel(*arguments, "--json", status=status).stdout)

    def champions(self):
        """The versions users get, by framework: what is loaded, not what is wished."""
        return {known["framework"]: known for known in self.json("models") if known["served"] == "to users"}

    def here(self, text):
        """A text of the documents with the addresses and the home of this platform in place of the documented ones."""
        for name, default in defaults().items():
            if name.endswith("_PORT"):
                text = text.replace(f"127.0.0.1:{default}", f"127.0.0.1:{self.settings.variables[name]}")
        return text.replace(".windtunnel/", f"{self.settings.home}/")

    def typed(self, command, directory):
        """What a command of a shell prints that a person types in a directory, with the project's virtual environment active."""
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        command = ["bash", "-euc", command] if isinstance(command, str) else command
        done = subprocess.run(
            command, cwd=directory, env=self.environment | {"PATH": path}, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def processes(self, word=""):
        """Every process with this in its command that has been given this home, found without the platform's help."""
        found = []
        for process in psutil.process_iter():
            with suppress(*GONE):
                if process.environ().get("WINDTUNNEL_HOME") == str(self.settings.home) and word in " ".join(process.cmdline()):
                    found.append(process)
        return found


def new_platform(directory, **settings):
    """A platform in `directory`, not yet started, with the project's DAGs and those of the tests; none runs by itself."""
    dags = directory / "dags"
    shutil.copytree(Path(__file__).parent / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (ROOT / "dags").glob("*.py"):
        (dags / file.name).symlink_to(file)
    return Platform(Settings(**{"home": directory / "home", "dags": dags, "schedule": None} | platform_ports() | settings))


@contextmanager
def up(platform):
    """A platform while it is up."""
    try:
        platform.windtunnel("up")
        yield platform
    finally:
        platform.windtunnel("down")


@pytest.fixture
def own_platform(tmp_path):
    """Makes platforms of the test's own, not yet started; they are stopped when it ends."""
    made = []

    def make(**settings):
        made.append(new_platform(tmp_path / str(len(made)), **settings))
        return made[-1]

    yield make
    for each in made:
        each.windtunnel("down")
