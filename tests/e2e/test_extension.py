"""A package with a framework, a model and a backend, installed beside the project: all of it goes through real runs, and no file changes.

The package is that in examples/, in a virtual environment of its own that sees the project's packages. The tests are one story: each
begins where the one before has ended.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.e2e.conftest import new_platform, up
from tests.examples.installed import install
from tests.waiting import wait_for
from windtunnel.platform.airflow import Airflow
from windtunnel.platform.ports import free_ports
from windtunnel.run import Run
from windtunnel.settings import ROOT, run_directory

pytestmark = pytest.mark.minutes(4)

PROGRAMS = ("airflow", "mlflow", "supervisord", "windtunnel")
"""What the platform starts by name. `scripts/relocatable.py` makes each use the Python in its own folder."""


def project():
    """What git says of the project: changed and new files, and the last commit."""
    commands = ("status", "--porcelain"), ("rev-parse", "HEAD")
    return [subprocess.run(["git", "-C", ROOT, *command], capture_output=True, text=True, check=True).stdout for command in commands]


def environment(folder):
    """Make a virtual environment with the project's packages and programs and the package of examples, and return its `windtunnel`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    (packages / "_project.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    for name in PROGRAMS:
        shutil.copy(Path(sys.executable).parent / name, programs / name)
    install(folder, "--python", str(programs / "python"))
    return programs / "windtunnel"


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A platform of its own with the package. The project is afterwards as it was before."""
    place, before = tmp_path_factory.mktemp("extension"), project()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDTUNNEL_DATA", str(place / "data"))
        patch.setenv("WINDTUNNEL_NPZ_SERVER_PORT", str(free_ports(1)[0]))
        with up(replace(new_platform(place), program=str(environment(place)))) as made:
            yield made
    assert project() == before


@pytest.fixture(scope="module")
def linear(platform):
    """A run of `lenet5` with the package's framework."""
    chosen = ("frameworks=linear", "samples=4000", "epochs=2", "learning_rate=0.001", "benchmark_seconds=0")
    return platform.json("run", "lenet5", *params(*chosen))


@pytest.fixture(scope="module")
def quadrants(platform):
    """A run of the package's model."""
    return platform.json("run", "quadrants", *params("weight_decay=0.001", "epochs=3", "fire_drill=true"))


@pytest.fixture(scope="module")
def address(platform):
    """The address of the package's server."""
    return {process["name"]: process for process in platform.json("status")["processes"]}["npz_server"]["address"]


def params(*chosen):
    return [word for each in chosen for word in ("--param", each)]


def ask(address, readings):
    """What the champion of the package's server answers over HTTP."""
    return httpx.post(f"{address}/models/quadrants-numpy/predict", json={"inputs": readings}, trust_env=False).json()


def directory(platform, run):
    return run_directory(platform.settings.home, run["dag_id"], run["run_id"])


def test_the_server_runs_with_the_platform(platform, address):
    assert httpx.get(f"{address}/models", trust_env=False).json() == {}
    (row,) = [line for line in platform.windtunnel("status").stdout.splitlines() if "npz_server" in line]
    assert address in row


def test_the_trigger_forms_have_the_framework_and_the_fields_of_the_model(platform):
    airflow = Airflow(platform.settings)

    def form(dag):
        return wait_for(lambda: airflow.http.get(f"/api/v2/dags/{dag}/details").json().get("params"))

    frameworks = form("lenet5")["frameworks"]
    assert "linear" in frameworks["schema"]["items"]["enum"]
    assert "linear" not in frameworks["value"]
    assert form("quadrants")["weight_decay"]["value"] == 0.0001
    assert form("quadrants")["frameworks"]["schema"]["items"]["enum"] == ["numpy", "torchscript"]
    assert airflow.http.get("/api/v2/importErrors").json()["total_entries"] == 0


def test_the_framework_is_trained_certified_and_released(platform, linear):
    row = linear["result"]["frameworks"]["linear"]
    assert row["release"] == "champion on torchserve"
    assert row["accuracy"] > 0.5
    assert linear["result"]["parity"] == "passed"


def test_the_model_is_trained_and_released_on_both_servers(platform, quadrants):
    assert {task["name"]: task["state"] for task in quadrants["tasks"] if task["state"] != "success"} == {}
    rows = quadrants["result"]["frameworks"]
    assert {name: row["release"] for name, row in rows.items()} == {
        "numpy": "champion on npz_server",
        "torchscript": "champion on torchserve",
    }
    assert 0 < rows["numpy"]["error"] == rows["torchscript"]["error"] < 0.1
    assert Run(directory(platform, quadrants)).spec_file.read_text().count('"weight_decay": 0.001') == 1


def test_the_reports_name_them_with_the_declared_metric(platform, linear, quadrants):
    for run, words in (
        (linear, ("lenet5-linear", "accuracy", "passed")),
        (quadrants, ("quadrants-numpy", "quadrants-torchscript", "error")),
    ):
        text = (directory(platform, run) / "report.txt").read_text()
        page = (directory(platform, run) / "report.html").read_text()
        for word in words:
            assert word in text
            assert word in page
    assert "accuracy" not in (directory(platform, quadrants) / "report.txt").read_text()


def test_the_versions_are_registered_and_listed_with_what_is_served(platform, linear, quadrants):
    known = {each["name"]: each for each in platform.json("models")}
    assert known.keys() == {"lenet5-linear", "quadrants-numpy", "quadrants-torchscript"}
    for name, each in known.items():
        assert (each["version"], each["aliases"], each["served"]) == (1, ["champion"], "to users"), name
    assert known["quadrants-numpy"]["error"] == quadrants["result"]["frameworks"]["numpy"]["error"]
    assert "error" in platform.windtunnel("models").stdout


@pytest.mark.parametrize("framework", ["numpy", "torchscript"])
def test_the_command_line_gets_the_trainers_answers(platform, quadrants, framework, tmp_path):
    golden = load_file(directory(platform, quadrants) / framework / "golden.safetensors")
    np.save(tmp_path / "readings.npy", golden["readings"])
    answers = platform.json("predict", f"quadrants-{framework}", str(tmp_path / "readings.npy"))
    assert [answer["label"] for answer in answers] == golden["label"].tolist()
    assert np.allclose([answer["probabilities"] for answer in answers], golden["probabilities"], atol=1e-5)


def test_the_printed_commands_get_the_trainers_answers(platform, linear, quadrants, tmp_path):
    (tmp_path / "img").symlink_to(ROOT / "img")
    golden = load_file(directory(platform, quadrants) / "torchscript" / "golden.safetensors")
    np.save(tmp_path / "sample.npy", golden["readings"][0])
    rows = linear["result"]["frameworks"] | quadrants["result"]["frameworks"]
    answers = {framework: json.loads(platform.typed(row["example"], tmp_path)) for framework, row in rows.items()}
    assert {answer["version"] for answer in answers.values()} == {1}
    assert np.allclose(answers["torchscript"]["probabilities"], golden["probabilities"][0], atol=1e-5)
    assert np.shape(answers["numpy"]["probabilities"]) == (1, 4)
    (known,) = platform.json("predict", "lenet5-linear", str(ROOT / "img" / "digit.png"))
    assert answers["linear"]["label"] == known["label"]
    assert answers["linear"]["probabilities"] == pytest.approx(known["probabilities"], abs=1e-5)


def test_the_server_answers_plain_http(platform, address, quadrants):
    golden = load_file(directory(platform, quadrants) / "numpy" / "golden.safetensors")
    reply = ask(address, golden["readings"].tolist())
    assert reply["version"] == 1
    assert np.allclose(reply["probabilities"], golden["probabilities"], atol=1e-5)


def test_a_worse_version_is_judged_by_the_declared_metric(platform, quadrants):
    run = platform.json("run", "quadrants", *params("frameworks=numpy", "samples=64", "epochs=1", "margin=0.001", "benchmark_seconds=0"))
    assert run["state"] == "success"
    row = run["result"]["frameworks"]["numpy"]
    assert row["error"] > quadrants["result"]["frameworks"]["numpy"]["error"] + 0.001
    assert "above the champion's, expected at most 0.10 points" in row["reason"]
    served = {(each["name"], each["version"]): each["served"] for each in platform.json("models")}
    assert served["quadrants-numpy", 1] == "to users"
    assert served["quadrants-numpy", 2] == "loaded"


def test_the_server_that_is_killed_comes_back_with_its_champion(platform, address, quadrants):
    (server,) = platform.processes("windtunnel_examples.backend")
    server.kill()

    def answer():
        with suppress(httpx.TransportError):
            return ask(address, [[0] * 6])

    wait_for(lambda: not server.is_running())
    assert wait_for(answer)["version"] == 1
