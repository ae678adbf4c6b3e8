"""A real platform on free ports, with a home of its own. Starting one takes some 20 s: tests that do not harm it share one."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from windtunnel.ports import platform_ports
from windtunnel.settings import ROOT, Settings

WINDTUNNEL = str(Path(sys.executable).parent / "windtunnel")


@dataclass(frozen=True)
class Platform:
    """A home and three ports; `windtunnel` is the command line with these settings."""

    settings: Settings

    @property
    def environment(self):
        return os.environ | {"TERM": "xterm"} | self.settings.variables

    def windtunnel(self, *arguments, status=0):
        done = subprocess.run([WINDTUNNEL, *arguments], env=self.environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == status, f"exit status {done.returncode}, wanted {status}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments, stderr=subprocess.PIPE):
        """The same, running: for what is done to it meanwhile."""
        return subprocess.Popen([WINDTUNNEL, *arguments], env=self.environment, stdout=subprocess.DEVNULL, stderr=stderr, text=True)

    def json(self, *arguments, status=0):
        return json.loads(self.windtunnel(*arguments, "--json", status=status).stdout)

    def here(self, text):
        """A text of the README with the addresses and the home of this platform in place of the documented ones."""
        for name, field in Settings.model_fields.items():
            if name.endswith("_port"):
                text = text.replace(f"127.0.0.1:{field.default}", f"127.0.0.1:{getattr(self.settings, name)}")
        return text.replace(".windtunnel/", f"{self.settings.home}/")

    def typed(self, command, directory):
        """What a command of a shell prints that a person types in a directory, with the project's virtual environment active."""
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        command = ["bash", "-euc", command] if isinstance(command, str) else command
        done = subprocess.run(command, cwd=directory, env=self.environment | {"PATH": path}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def processes(self):
        """Every process that has been given this home, found without the platform's help."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("WINDTUNNEL_HOME") == str(self.settings.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def new_platform(directory, **settings):
    """A platform in `directory`, not yet started, with the project's DAGs and those of the tests; none runs by itself."""
    dags = directory / "dags"
    shutil.copytree(Path(__file__).parent / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (ROOT / "dags").glob("*.py"):
        (dags / file.name).symlink_to(file)
    return Platform(Settings(**{"home": directory / "home", "dags": dags, "schedule": None} | platform_ports() | settings))


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    """The platform that tests share: up, and left as it is found."""
    shared = new_platform(tmp_path_factory.mktemp("platform"))
    try:
        shared.windtunnel("up")
        yield shared
    finally:
        shared.windtunnel("down")


@pytest.fixture(scope="module")
def champions(platform):
    """Something to ask: what the tests before have left, or else what a run releases."""
    if [known["served"] for known in platform.json("models")].count("to users") == 3:
        return
    run = platform.json("run", "lenet5", "--param", "samples=4000", "--param", "margin=1", "--param", "benchmark_seconds=0")
    assert {row["release"] for row in run["result"]["frameworks"].values()} == {"champion on torchserve", "champion on tfserving"}


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
