"""Processes that are killed while users ask every model server: each comes back by itself, and nobody else notices.

The tests are one story: each begins where the one before has ended. `KILLS` is how many processes are killed at random; the seconds
until everything is up again are printed.
"""

import math
import os
import random
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import pytest
from safetensors.numpy import load_file

from serving.backends.catalog import connect
from tests.e2e.conftest import new_platform, up
from tests.serving.conftest import House
from tests.serving.speech_server.speech_models import write_version
from tests.waiting import wait_for
from windtunnel.errors import WindtunnelError
from windtunnel.platform import lifecycle
from windtunnel.platform.processes import running

pytestmark = pytest.mark.minutes(5)
SERVERS = {"torchserve": "lenet5-pytorch", "tfserving": "lenet5-tensorflow", "speech": "speech-commands"}
PROCESSES = ("scheduler", "dag-processor", "api-server", "triggerer", "mlflow", "tensorboard", "models_api", *SERVERS)
SECONDS_BETWEEN = 0.05


@dataclass(eq=False)
class User:
    """Somebody who asks a server 20 times a second and knows what it has to answer."""

    server: str
    settings: object
    question: object
    label: int
    answers: int = 0
    failures: list = field(default_factory=list)
    wrong: int = 0

    def ask(self, connected):
        outputs = connected.predict(SERVERS[self.server], self.question)
        self.wrong += outputs["logits"][0].argmax() != self.label

    def ask_until(self, stop):
        connected = connect(self.server, self.settings)
        due = time.monotonic()
        while not stop.is_set():
            try:
                self.ask(connected)
                self.answers += 1
            except WindtunnelError as error:
                self.failures.append(repr(error))
            due = max(due + SECONDS_BETWEEN, time.monotonic())
            stop.wait(due - time.monotonic())


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with up(new_platform(tmp_path_factory.mktemp("killed"))) as made:
        yield made
    assert made.processes() == []


@pytest.fixture(scope="module")
def users(platform, trained, tmp_path_factory):
    """One of each server, whose champion is a version that was trained on a few images, or needs no training."""
    versions = {
        "torchserve": trained("pytorch"),
        "tfserving": trained("tensorflow"),
        "speech": write_version(tmp_path_factory.mktemp("speech") / "version"),
    }
    made = []
    for server, name in SERVERS.items():
        House(platform.settings).register(versions[server])
        platform.windtunnel("deploy", name)
        golden = load_file(versions[server] / "golden.safetensors")
        question = golden["audio" if server == "speech" else "image"][:1]
        made.append(User(server, platform.settings, question, golden["logits"][0].argmax()))
    return made


@contextmanager
def asking(users):
    """Have users ask all along; yields what tells how often each has failed so far."""
    stop = threading.Event()
    threads = [threading.Thread(target=user.ask_until, args=(stop,)) for user in users]
    for thread in threads:
        thread.start()
    try:
        yield lambda: {user.server: list(user.failures) for user in users}
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def now(platform, name):
    return next(process for process in lifecycle.status(platform.settings) if process.name == name)


def complete(platform):
    return all(process.up for process in lifecycle.status(platform.settings))


def kill(platform, users, name):
    """Kill a process, and return the seconds until everything is up again and answers."""
    before = now(platform, name)
    started = time.monotonic()
    os.kill(before.pid, signal.SIGKILL)

    def back():
        after = {process.name: process for process in lifecycle.status(platform.settings)}
        return after[name].pid != before.pid and all(process.up for process in after.values())

    wait_for(back, explain=lambda: lifecycle.status(platform.settings))
    asked = {user: user.answers for user in users if user.server == name}
    wait_for(lambda: all(user.answers > answers for user, answers in asked.items()), explain=lambda: list(asked))
    assert now(platform, name).restarts == before.restarts + 1
    return time.monotonic() - started


def killed_while_asked(platform, users, names):
    """Kill one process after the other; nobody notices but who asks a server that is killed."""
    seconds = []
    with asking(users) as failures:
        wait_for(lambda: all(user.answers for user in users))
        for name in names:
            before = failures()
            seconds.append(kill(platform, users, name))
            others = {server: found[len(before[server]) :] for server, found in failures().items() if server != name}
            assert not any(others.values()), f"{name} was killed: {others}"
    assert [user.wrong for user in users] == [0] * len(users)
    print("\n".join(f"{name} was killed: everything is up again after {took:.1f} s" for name, took in zip(names, seconds, strict=True)))


def test_each_process_that_is_killed_comes_back_and_no_other_server_loses_a_request(platform, users):
    killed_while_asked(platform, users, PROCESSES)


def test_processes_killed_at_random_come_back(platform, users):
    kills = int(os.environ.get("KILLS", "3"))
    often = math.ceil(kills / len(PROCESSES))  # at most, because who ends again and again is given up
    killed_while_asked(platform, users, random.Random(12).sample(PROCESSES, kills, counts=[often] * len(PROCESSES)))


@pytest.mark.parametrize(
    ("name", "said"),
    [("scheduler", "the scheduler was restarted"), ("api-server", "the run waits for the api-server")],
    ids=["scheduler", "api-server"],
)
def test_a_run_goes_on_when_what_it_needs_is_killed(platform, name, said):
    lines, pid = [], now(platform, name).pid  # which takes a second or more to know
    with platform.start("run", "trivial", "--param", "names=a", "--param", "seconds=15") as run:
        for line in run.stderr:
            lines.append(line)
            if "working on a" in line:
                break
        os.kill(pid, signal.SIGKILL)
        lines += run.stderr
        assert run.wait() == 0, lines
    assert any(said in line for line in lines), lines


def test_a_run_that_waits_for_a_scheduler_that_cannot_live_says_so(platform):
    def is_given_up():
        found = now(platform, "scheduler")
        if found.pid:
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
        return found.state == "failed"

    wait_for(is_given_up)
    error = platform.windtunnel("run", "trivial", status=1).stderr
    assert "error: the run waits for the scheduler, whose state is failed: see " in error
    assert "Start it with `windtunnel up`: the run continues" in error
    assert platform.json("up")["started"]
    assert platform.json("run", "trivial")["state"] == "success"


def test_a_process_that_cannot_live_is_reported_and_the_others_stay_up(platform):
    port = platform.settings.tensorboard_port
    before = {process.name: process.pid for process in lifecycle.status(platform.settings)}
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.pop("tensorboard")
        wait_for(lambda: take_port(holder, platform, "tensorboard", port))
        wait_for(lambda: now(platform, "tensorboard").state == "failed", explain=lambda: now(platform, "tensorboard"))
        shown = platform.windtunnel("status", status=3).stdout
        assert f"tensorboard failed: it ended repeatedly right after its start, see {platform.settings.logs / 'tensorboard.log'}" in shown
        taken = platform.windtunnel("up", status=1).stderr
        assert f"port {port} of tensorboard cannot be used: in use by" in taken
    assert platform.json("up")["started"]
    after = {process["name"]: process for process in platform.json("status")["processes"]}
    assert {name: after[name]["pid"] for name in before} == before


def take_port(holder, platform, name, port):
    """Take the port of a process before it can take it again."""
    for process in running(platform.settings.home).get(name, []):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    try:
        holder.bind((platform.settings.host, port))
    except OSError:
        return False
    holder.listen()
    return True


def test_without_its_supervisor_users_are_answered_and_up_repairs_the_platform(platform, users):
    os.kill(now(platform, "supervisor").pid, signal.SIGKILL)
    wait_for(lambda: not now(platform, "supervisor").up)
    for user in users:
        user.ask(connect(user.server, platform.settings))
    shown = {process["name"]: process for process in platform.json("status", status=3)["processes"]}
    assert shown["supervisor"]["state"] == "down"

    os.kill(shown["scheduler"]["pid"], signal.SIGKILL)  # what it leaves is no scheduler
    wait_for(lambda: now(platform, "scheduler").state == "down")

    assert platform.json("up")["started"]
    assert complete(platform)
    for user in users:
        user.ask(connect(user.server, platform.settings))
