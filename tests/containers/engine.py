"""A real Docker engine to test with: the one that answers, else our own, with data of its own that is kept for the next time."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import packages
from tests.waiting import PATIENCE

PACKAGES = {
    "/usr/sbin/dockerd": "docker.io",
    "/usr/bin/docker-compose": "docker-compose",
    "/usr/sbin/debootstrap": "debootstrap",
    "/usr/bin/podman": "podman",
}
CACHE_SIZE = "30GB"  # the images of one tree and what they are built from take 22
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "windtunnel"


class Unavailable(Exception):
    """There is no engine, and none can be had here; the text says what is needed."""


@dataclass(frozen=True)
class Engine:
    """An engine at `url`, such as `unix:///run/docker.sock`, and its client."""

    url: str
    client: str

    @property
    def environment(self):
        """What makes Docker's programs ask this engine."""
        return os.environ | {"DOCKER_HOST": self.url, "DOCKER": self.client}

    def docker(self, *arguments, check=True, timeout=600):
        """Run the client and return what it printed."""
        return subprocess.run(
            [self.client, *arguments], env=self.environment, stdout=subprocess.PIPE, text=True, check=check, timeout=timeout
        ).stdout.strip()

    def containers(self, *labels):
        """The ids of all containers, running or not, with these labels."""
        return self.docker("ps", "-aq", *(word for label in labels for word in ("--filter", f"label={label}"))).split()

    def has(self, image):
        return bool(self.docker("images", "-q", image))


@contextmanager
def find_or_start() -> Iterator[Engine]:
    """The engine that answers; else one of our own, which is stopped in the end.

    Raises:
        Unavailable: neither is possible here.
    """
    url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    install()
    engine = Engine(url, client())
    if answers(engine):
        yield engine
    else:
        with started() as engine:
            yield engine


def client() -> str:
    """Docker's command line: Debian's own before another on the PATH."""
    return shutil.which("/usr/bin/docker") or shutil.which("docker") or "docker"


def answers(engine: Engine) -> bool:
    try:
        return bool(engine.docker("version", "--format", "{{.Server.Version}}", timeout=PATIENCE))
    except (OSError, subprocess.SubprocessError):
        return False


def install() -> None:
    """Install what is missing, as root on Debian."""
    missing = [package for program, package in PACKAGES.items() if not shutil.which(Path(program).name) and not Path(program).exists()]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"needed are {', '.join(missing)} and a running engine: install them, or run this as root on Debian")
    packages.install(missing)


@contextmanager
def started() -> Iterator[Engine]:
    """An engine of our own. Its images and build cache are kept in the user's cache folder, all else goes with it."""
    if os.geteuid() != 0:
        raise Unavailable("no Docker engine answers, and only root can start one: start Docker, or set DOCKER_HOST")
    data = CACHE / "docker"
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="engine") as home:
        run = Path(home)
        engine = Engine(f"unix://{run}/docker.sock", client())
        flags = {"--data-root": data, "--exec-root": run / "exec", "--pidfile": run / "pid", "--host": engine.url}
        with (run / "log").open("wb") as log:
            process = subprocess.Popen(
                ["dockerd", *(str(word) for flag in flags.items() for word in flag)], stdout=log, stderr=log, start_new_session=True
            )
        try:
            deadline = time.monotonic() + PATIENCE
            while not answers(engine):
                said = "\n".join((run / "log").read_text().splitlines()[-10:])
                assert process.poll() is None, f"dockerd has ended:\n{said}"
                assert time.monotonic() < deadline, f"dockerd does not answer after {PATIENCE:g} s:\n{said}"
                time.sleep(0.5)
            _clear(engine)
            yield engine
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _clear(engine: Engine) -> None:
    """Remove what a session that was killed has left in an engine of our own, which has started its services again, and old images."""
    engine.docker("swarm", "leave", "--force", check=False)
    if left := engine.containers():
        engine.docker("rm", "--force", *left)
    for kind in ("network", "volume", "image"):
        engine.docker(kind, "prune", "--force")
    engine.docker("builder", "prune", "--force", "--keep-storage", CACHE_SIZE)
