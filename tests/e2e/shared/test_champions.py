"""What the DAG `lenet5` releases, as users meet it: the champions on the platform's servers, the gate, the drill, a server that dies."""

import json
import signal
import time
from contextlib import suppress

import httpx
import psutil
import pytest

from serving import audit
from tests.waiting import PATIENCE, wait_for
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT, run_directory
from windtunnel.spec import FRAMEWORKS

SERVERS = {"libtorch": "torchserve", "pytorch": "torchserve", "tensorflow": "tfserving"}
SHORT = ("--param", "samples=4000", "--param", "epochs=2", "--param", "benchmark_seconds=0")
DIGIT = str(ROOT / "img" / "digit.png")


def champions(platform):
    """The versions users get, by framework: what is loaded, not what is wished."""
    return {known["framework"]: known for known in platform.json("models") if known["served"] == "to users"}


def states(run):
    return {task["name"]: task["state"] for task in run["tasks"]}


@pytest.fixture(scope="module")
def run(platform):
    """A run that releases all three, whatever the champions are."""
    return platform.json("run", "lenet5", *SHORT, "--param", "margin=1", "--param", "fire_drill=true", "--param", "seed=5")


def test_a_run_ends_with_three_champions_that_answer(platform, run):
    assert {name for name, state in states(run).items() if state != "success"} == {"measure"}  # left out
    served = champions(platform)
    for framework in FRAMEWORKS:
        result = run["result"]["frameworks"][framework]
        assert result["release"] == f"champion on {SERVERS[framework]}"
        assert (served[framework]["version"], served[framework]["aliases"][0]) == (result["version"], "champion")
        answers = [
            platform.json("predict", f"lenet5-{framework}", DIGIT, *flags)[0]
            for flags in ((), ("--grpc",), ("--version", str(result["version"])))
        ]
        assert len({answer["label"] for answer in answers}) == 1
        assert sum(answers[0]["probabilities"]) == pytest.approx(1)
    if run["result"]["spec"]["dataset"] == "mnist":
        assert answers[0]["label"] == 7


def test_each_change_of_champion_is_in_the_audit_log(platform, run):
    name = f"lenet5/{run_directory(platform.settings.home, 'lenet5', run['run_id']).name}"
    lines = [line for line in audit.read(platform.settings.serving) if line["run"] == name]
    assert {line["model"]: line["to_version"] for line in lines} == {
        f"lenet5-{framework}": row["version"] for framework, row in run["result"]["frameworks"].items()
    }
    assert all(line["who"] and line["why"] and line["action"] == "promote" for line in lines)


def test_the_drill_turned_a_broken_version_away(platform, run):
    logs = platform.settings.logs / "tasks" / "dag_id=lenet5" / f"run_id={run['run_id']}" / "task_id=release.fire_drill"
    for index in range(3):
        said = [json.loads(line)["event"] for line in (logs / f"map_index={index}/attempt=1.log").read_text().splitlines()]
        assert any(line.startswith("fire drill passed: the broken version was turned away (") for line in said)


def test_a_worse_challenger_is_kept_and_not_promoted(platform, run):
    before = champions(platform)
    weak = ("--param", "samples=64", "--param", "epochs=1", "--param", "benchmark_seconds=0")
    worse = platform.json("run", "lenet5", *weak, "--param", "frameworks=pytorch,tensorflow", "--param", "margin=0.01")
    assert worse["state"] == "success"
    assert champions(platform) == before
    for framework in ("pytorch", "tensorflow"):
        row = worse["result"]["frameworks"][framework]
        assert row["release"] == "challenger"
        assert "points below the champion's, may be 1.00" in row["reason"]
        known = next(
            known for known in platform.json("models") if (known["name"], known["version"]) == (f"lenet5-{framework}", row["version"])
        )
        assert (known["aliases"], known["served"]) == (["challenger"], "loaded")
        assert platform.json("predict", f"lenet5-{framework}", DIGIT, "--version", str(row["version"]))
    found = states(worse)
    assert {state for name, state in found.items() if name.startswith("release.gate")} == {"skipped"}
    assert {state for name, state in found.items() if name.startswith(("release.promote", "release.approve"))} == {"skipped"}


def test_a_deployment_by_hand_and_the_way_back(platform, run):
    framework = "tensorflow"
    now = champions(platform)[framework]
    other = next(known for known in platform.json("models") if known["framework"] == framework and known["version"] != now["version"])
    done = platform.json("deploy", f"{now['name']}@{other['version']}", "--why", "a try")
    assert done["version"] == other["version"] == champions(platform)[framework]["version"]
    start = time.monotonic()
    assert platform.json("rollback", now["name"])["version"] == now["version"]
    print(f"rolled back in {time.monotonic() - start:.2f} s")
    assert champions(platform)[framework]["version"] == now["version"]
    assert audit.read(platform.settings.serving)[-2]["why"] == "a try"
    assert "has no" not in platform.windtunnel("models").stdout


@pytest.mark.parametrize(("server", "word"), [("torchserve", "org.pytorch.serve.ModelServer"), ("tfserving", "serving.tfserving.embedded")])
def test_a_server_killed_at_work_is_back_with_its_champions(platform, run, server, word):
    before = champions(platform)
    victim = platform.processes(word)[0]
    victim.send_signal(signal.SIGKILL)
    psutil.wait_procs([victim], timeout=PATIENCE)

    def back():
        with suppress(WindtunnelError, AssertionError):
            return champions(platform) == before

    wait_for(back)
    for framework in FRAMEWORKS:
        assert platform.json("predict", f"lenet5-{framework}", DIGIT)
    assert platform.json("status")["up"]


def test_what_cannot_be_asked_is_said_in_one_line(platform, run, tmp_path):
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


def test_the_management_api_wants_its_token(platform, run):
    settings = platform.settings
    url = f"http://{settings.host}:{settings.torchserve_management_port}/models"
    reply = httpx.get(url, trust_env=False, timeout=PATIENCE)
    assert 400 <= reply.status_code < 500
    assert "lenet5" not in reply.text
