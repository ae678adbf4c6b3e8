"""The champions on the platform's servers, as users meet them: a worse challenger, a deployment by hand, a server that dies."""

import signal
import time
from contextlib import suppress

import httpx
import psutil
import pytest

from serving.backends.torchserve.declaration import TorchServeSettings
from serving.release import audit
from tests.waiting import PATIENCE, wait_for
from train_server.lenet5.model import LENET5
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT

pytestmark = pytest.mark.usefixtures("champions")

DIGIT = str(ROOT / "img" / "digit.png")


def test_a_worse_challenger_is_kept_and_not_promoted(platform):
    before = platform.champions()
    weak = ("--param", "samples=64", "--param", "epochs=1", "--param", "benchmark_seconds=0")
    worse = platform.json("run", "lenet5", *weak, "--param", "frameworks=pytorch,tensorflow", "--param", "margin=0.01")
    assert worse["state"] == "success"
    assert platform.champions() == before
    for framework in ("pytorch", "tensorflow"):
        row = worse["result"]["frameworks"][framework]
        assert row["release"] == "challenger"
        assert "points below the champion's, expected at most 1.00" in row["reason"]
        known = next(
            known for known in platform.json("models") if (known["name"], known["version"]) == (f"lenet5-{framework}", row["version"])
        )
        assert (known["aliases"], known["served"]) == (["challenger"], "loaded")
        assert platform.json("predict", f"lenet5-{framework}", DIGIT, "--version", str(row["version"]))
    found = {task["name"]: task["state"] for task in worse["tasks"]}
    assert {state for name, state in found.items() if name.startswith("release.gate")} == {"skipped"}
    assert {state for name, state in found.items() if name.startswith(("release.promote", "release.approve"))} == {"skipped"}


def test_a_deployment_by_hand_and_the_way_back(platform):
    framework = "tensorflow"
    now = platform.champions()[framework]
    other = next(known for known in platform.json("models") if known["framework"] == framework and known["version"] != now["version"])
    done = platform.json("deploy", f"{now['name']}@{other['version']}", "--why", "a try")
    assert done["version"] == other["version"] == platform.champions()[framework]["version"]
    start = time.monotonic()
    assert platform.json("rollback", now["name"])["version"] == now["version"]
    print(f"rolled back in {time.monotonic() - start:.2f} s")
    assert platform.champions()[framework]["version"] == now["version"]
    assert audit.read(platform.settings.serving)[-2]["why"] == "a try"
    assert "has no" not in platform.windtunnel("models").stdout


@pytest.mark.parametrize(("server", "word"), [("torchserve", "org.pytorch.serve.ModelServer"), ("tfserving", "serving.tfserving_embedded")])
def test_a_server_killed_at_work_is_back_with_its_champions(platform, server, word):
    before = platform.champions()
    victim = platform.processes(word)[0]
    victim.send_signal(signal.SIGKILL)
    psutil.wait_procs([victim], timeout=PATIENCE)

    def back():
        with suppress(WindtunnelError, AssertionError):
            return platform.champions() == before

    wait_for(back)
    for framework in LENET5.default_frameworks:
        assert platform.json("predict", f"lenet5-{framework}", DIGIT)
    assert platform.json("status")["up"]


def test_what_cannot_be_asked_is_said_in_one_line(platform, tmp_path):
    (tmp_path / "note.txt").write_text("not a picture")
    for arguments, expected in (
        (("predict", "lenet5-pytorch", str(tmp_path / "note.txt")), "note.txt"),
        (("predict", "lenet5-pytorch", DIGIT, "--version", "99"), "99"),
        (("predict", "lenet5-tensorflow", DIGIT, "--version", "99", "--grpc"), "99"),
        (("predict", "cats", DIGIT), "'cats'"),
        (("deploy", "lenet5-pytorch@99"), "99"),
        (("rollback", "lenet5-cats"), "'lenet5-cats'"),
    ):
        error = platform.windtunnel(*arguments, status=1).stderr
        assert error.startswith("error: ")
        assert error.count("\n") == 1, error
        assert expected in error


def test_the_management_api_wants_its_token(platform):
    url = f"{platform.settings.server(TorchServeSettings).management_url}/models"
    reply = httpx.get(url, trust_env=False, timeout=PATIENCE)
    assert 400 <= reply.status_code < 500
    assert "lenet5" not in reply.text
