"""The platform as containers, on ports and under a project name of its own."""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from docker import APIClient

from tests.containers.engine import Engine
from tests.tones import FEW, tones_archive
from tests.waiting import PATIENCE, RUN_PATIENCE
from windtunnel.data.datasets import KNOWN, find
from windtunnel.platform.airflow import Airflow
from windtunnel.platform.ports import platform_ports
from windtunnel.platform.secrets import password_file
from windtunnel.settings import ROOT, Settings

HEALTHY_SECONDS = RUN_PATIENCE


def compose_command():
    """docker-compose 1.29 as Debian has it, or Compose v2."""
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def write_data(folder):
    """Fill a folder with data sets: images, as found along the search path, and recordings that are quick to learn."""
    images = next(directory for known in KNOWN.values() if (directory := find(known)))
    shutil.copytree(images, folder / images.name)
    (folder / "speech").mkdir()
    (folder / "speech" / "mini_speech_commands.zip").write_bytes(tones_archive(FEW))


def service_of(container):
    """The compose service that a container, as the engine describes it, is one of."""
    return container["Config"]["Labels"]["com.docker.compose.service"]


@dataclass
class Stack:
    """A compose project; `home` is a folder on this side for what its user would note down, and in `data` are data sets."""

    engine: Engine
    project: str
    images: dict[str, str]
    home: Path
    data: Path
    files: tuple[str, ...] = ("docker-compose.yml",)
    ports: dict[str, Any] = field(default_factory=platform_ports)

    @cached_property
    def environment(self):
        """No setting of whoever runs the tests; the variables of `.env.example` as a user would set them."""
        inherited = {name: value for name, value in self.engine.environment.items() if not name.startswith(("WINDTUNNEL_", "COMPOSE_"))}
        ports = {name: port for name, port in self.settings.variables.items() if name.endswith("_PORT")}
        own = {"COMPOSE_PROJECT_NAME": self.project, "WINDTUNNEL_DATA": str(self.data), "WINDTUNNEL_SCHEDULE": "none"}
        own |= {"DOCKER_SOCKET": self.engine.url.removeprefix("unix://"), "COMPOSE_HTTP_TIMEOUT": str(int(PATIENCE))}
        return inherited | ports | own | self.images

    @property
    def settings(self):
        """Where a user on this machine finds the servers."""
        return Settings(home=self.home, schedule=None, **self.ports)

    def compose(self, *arguments, check=True, timeout=RUN_PATIENCE):
        """Run compose and return what it printed on stdout."""
        files = [word for file in self.files for word in ("-f", str(ROOT / file))]
        command = [*compose_command(), *files, *arguments]
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
        assert not check or done.returncode == 0, f"{' '.join(command)} ended with status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self, *arguments):
        """Start everything and wait until it is healthy; return the seconds that took."""
        start = time.monotonic()
        try:
            self.compose("up", "-d", *arguments)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('logs', '--tail=30', *self.unwell())}") from None
        while unwell := self.unwell():
            waited = time.monotonic() - start
            assert waited < HEALTHY_SECONDS, f"not healthy after {waited:.0f} s: {unwell}\n{self.compose('logs', '--tail=30', *unwell)}"
            time.sleep(1)
        return time.monotonic() - start

    def unwell(self):
        """The services of which a container is neither healthy nor done."""
        return sorted({service for service, state in self._containers() if state not in ("healthy", "done")})

    def states(self):
        """Of every service: `healthy`, `done` (a one-shot that succeeded), or what is wrong with one of its containers."""
        return dict(self._containers())

    def _containers(self):
        """The service and the state of every container."""
        for container in self.inspect():
            state, service = container["State"], service_of(container)
            if state["Status"] == "exited":
                yield service, "done" if state["ExitCode"] == 0 else f"exited with {state['ExitCode']}"
            else:
                yield service, state.get("Health", {}).get("Status", "has no health check")

    def inspect(self, service=None):
        """What the engine says of the project's containers, or those of one service."""
        labels = [f"com.docker.compose.project={self.project}"]
        if service:
            labels.append(f"com.docker.compose.service={service}")
        found = self.engine.containers(*labels)
        return json.loads(self.engine.docker("inspect", *found)) if found else []

    def memory(self):
        """What all running containers of the project take, in bytes, without the page cache that can be had back."""
        total = 0
        api = APIClient(self.engine.url)
        for container in self.inspect():
            if container["State"]["Running"]:
                statistics = api.stats(container["Id"], stream=False, one_shot=True)["memory_stats"]
                total += statistics["usage"] - statistics["stats"].get("total_inactive_file", statistics["stats"].get("inactive_file", 0))
        return total

    def run(self, *arguments, **options):
        """Run the command line `windtunnel` in its container."""
        return self.compose("run", "--rm", "-T", "windtunnel", *arguments, **options)

    def read(self, service, file):
        """A file's text out of a running container."""
        return self.compose("exec", "-T", service, "cat", file)

    def airflow(self):
        """Log in to Airflow from outside, with the password that was generated."""
        passwords = password_file(self.settings)
        passwords.parent.mkdir(parents=True, exist_ok=True)
        passwords.write_text(self.read("airflow-apiserver", "/var/lib/windtunnel/secrets/airflow-passwords.json"))
        return Airflow(self.settings)

    def down(self, *arguments):
        self.compose("down", "--remove-orphans", *arguments)
