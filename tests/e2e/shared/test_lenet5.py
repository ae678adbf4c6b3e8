"""The DAG `lenet5` as its users meet it: real trainers under a real scheduler, tracked in a real MLflow and TensorBoard."""

import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from safetensors.numpy import load_file, save_file
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.util import tensor_util

from serving.release import audit
from tests.waiting import PATIENCE, RUN_PATIENCE, wait_for
from train_server.lenet5.model import LENET5
from windtunnel.files import write_json
from windtunnel.manifest import verify_version
from windtunnel.platform.airflow import Airflow, runs_path
from windtunnel.run import Run
from windtunnel.settings import ROOT, run_directory

pytestmark = pytest.mark.minutes(7)

TRAINING = ("--param", "samples=4000", "--param", "epochs=2")
SHORT = (*TRAINING, "--param", "benchmark_seconds=0")
SERVERS = {"libtorch": "torchserve", "pytorch": "torchserve", "tensorflow": "tfserving"}
DIGIT = str(ROOT / "img" / "digit.png")


def lenet5(platform, *arguments, status=0):
    return platform.json("run", "lenet5", *arguments, status=status)


def directory(platform, run):
    return run_directory(platform.settings.home, "lenet5", run["run_id"])


def versions(platform, run):
    """What `windtunnel models` lists of a run, by framework."""
    return {known["framework"]: known for known in platform.json("models") if known["dag_run"] == f"lenet5/{run['run_id']}"}


def tracked(platform, run_id):
    """The states in MLflow of a DAG run, by its id, and of its trainings, by framework."""
    mlflow, states = MlflowClient(platform.settings.mlflow_url), {}
    experiments = [each.experiment_id for each in mlflow.search_experiments()]
    for each in mlflow.search_runs(experiments, f"tags.run_id = '{run_id}'"):
        states.setdefault(each.info.run_name, []).append(each.info.status)
    return states


@pytest.fixture(scope="module")
def alone(platform):
    """Two frameworks trained alone, by runs at once; each is compared with nothing, and released."""
    with ExitStack() as both:
        commands = [("run", "lenet5", *SHORT, "--param", f"frameworks={name}") for name in ("pytorch", "libtorch")]
        for started in [both.enter_context(platform.start(*command)) for command in commands]:
            _, errors = started.communicate(timeout=RUN_PATIENCE)
            assert started.returncode == 0, errors


@pytest.fixture(scope="module")
def run(platform, alone):
    """A short run of all three frameworks, beside two champions, that leaves nothing out and releases whatever it trains."""
    return lenet5(platform, *TRAINING, "--param", "benchmark_seconds=0.05", "--param", "margin=1", "--param", "fire_drill=true")


def test_one_framework_alone_and_two_runs_at_once(platform, alone):
    newest = [known for known in platform.json("models") if known["name"] in ("lenet5-pytorch", "lenet5-libtorch")]
    runs = {known["dag_run"] for known in newest}
    assert len([run for run in runs if len([known for known in newest if known["dag_run"] == run]) == 1]) >= 2


def test_a_run_ends_with_three_champions_that_answer(platform, run):
    assert {task["state"] for task in run["tasks"]} == {"success"}
    served = platform.champions()
    for framework in LENET5.default_frameworks:
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
    name = f"lenet5/{directory(platform, run).name}"
    lines = [line for line in audit.read(platform.settings.serving) if line["run"] == name]
    assert {line["model"]: line["to_version"] for line in lines} == {
        f"lenet5-{framework}": row["version"] for framework, row in run["result"]["frameworks"].items()
    }
    assert all(line["who"] and line["why"] and line["action"] == "promote" for line in lines)


def test_the_drill_turned_a_broken_version_away(platform, run):
    logs = platform.settings.logs / "tasks" / "dag_id=lenet5" / f"run_id={run['run_id']}" / "task_id=release.fire_drill"
    for index in range(3):
        said = [json.loads(line)["event"] for line in (logs / f"map_index={index}/attempt=1.log").read_text().splitlines()]
        assert any(line.startswith("fire drill passed: the broken version was rejected (") for line in said)


def test_a_run_registers_three_versions_with_accuracy_and_lineage(platform, run):
    assert run["state"] == "success"
    assert run["result"]["parity"] == "passed"
    known = versions(platform, run)
    assert set(known) == set(LENET5.default_frameworks)
    for framework, version in known.items():
        assert version["name"] == f"lenet5-{framework}"
        assert version["version"] == run["result"]["frameworks"][framework]["version"]
        assert 0.7 < version["accuracy"] < 1
        assert version["data_fingerprint"] == verify_version(directory(platform, run) / framework).dataset.fingerprint
        assert len(version["git_commit"].removesuffix("-dirty")) == 40 or version["git_commit"] == "unknown"


def test_the_result_table_and_the_trainers_lines_are_printed(platform, run):
    table = (directory(platform, run) / "report.txt").read_text()
    assert all(f"lenet5-{framework}" in table for framework in LENET5.default_frameworks)
    assert table.count("passed") == 3
    logs = platform.settings.logs / "tasks" / "dag_id=lenet5" / f"run_id={run['run_id']}" / "task_id=framework.train"
    for framework in range(3):
        lines = [json.loads(line)["event"] for line in (logs / f"map_index={framework}/attempt=1.log").read_text().splitlines()]
        assert sum(line.startswith("epoch 2/2  loss ") for line in lines) == 1


def test_the_report_splits_the_time_of_the_run(platform, run):
    split = run["result"]["split"]
    parts = {name: part["seconds"] for name, part in split["parts"].items()}
    assert set(parts) == {"training", "measuring", "orchestration"}
    assert sum(parts.values()) == pytest.approx(split["seconds"])
    assert min(parts.values()) > 0
    assert (directory(platform, run) / "report.txt").read_text().count("The run took ") == 1


def test_mlflow_holds_curves_versions_and_the_certificate(platform, run):
    mlflow = MlflowClient(platform.settings.mlflow_url)
    parent = run["result"]["lineage"]["mlflow_run"]
    assert mlflow.get_run(parent).info.status == "FINISHED"
    assert {file.path for file in mlflow.list_artifacts(parent)} == {
        "parity.json",
        "parity.txt",
        "report.html",
        "report.json",
        "report.txt",
    }
    experiment = mlflow.get_experiment_by_name("lenet5").experiment_id
    nested = mlflow.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {each.data.tags["framework"] for each in nested} == set(LENET5.default_frameworks)
    for each in nested:
        assert each.info.status == "FINISHED"
        assert each.data.params["learning_rate"] == "0.01"
        assert each.data.tags["cpu"]
        assert each.data.tags["package.tensorflow" if each.data.tags["framework"] == "tensorflow" else "package.torch"][0] == "2"
        assert [point.step for point in mlflow.get_metric_history(each.info.run_id, "accuracy")] == [1, 2]
        assert "version/manifest.json" in {file.path for file in mlflow.list_artifacts(each.info.run_id, "version")}


def test_every_version_was_measured_and_every_answer_right(platform, run):
    measured = json.loads((directory(platform, run) / "benchmark.json").read_text())
    assert {name: found["version"] for name, found in measured["models"].items()} == {
        row["name"]: row["version"] for row in run["result"]["frameworks"].values()
    }
    assert [row["invalid"] for row in measured["rows"] if row["invalid"]] == []
    assert not measured["partial"]
    closed = [row for row in measured["rows"] if (row["loop"], row["concurrency"], row["batch"]) == ("closed", 10, 1)]
    usual = {(row["framework"], row["protocol"]): row["requests_per_second"] for row in closed}
    assert set(usual) == set(itertools.product(LENET5.default_frameworks, ("rest", "grpc")))
    mlflow = MlflowClient(platform.settings.mlflow_url)
    for (framework, protocol), rates in usual.items():
        version = run["result"]["frameworks"][framework]
        holder = mlflow.get_model_version(version["name"], str(version["version"])).run_id
        assert mlflow.get_run(holder).data.metrics[f"serving_{protocol}_c10_b1_requests_per_second"] == statistics.median(rates)
        assert len(rates) == 3


def test_each_version_was_compared_with_the_champion_it_follows(platform, run):
    measured = json.loads((directory(platform, run) / "benchmark.json").read_text())
    name = f"lenet5/{directory(platform, run).name}"
    followed = {line["model"]: line["from_version"] for line in audit.read(platform.settings.serving) if line["run"] == name}
    assert followed["lenet5-pytorch"]
    assert followed["lenet5-libtorch"]
    found = {(each["model"], each["protocol"]): each for each in measured["comparisons"]}
    assert set(found) == {(model, protocol) for model, champion in followed.items() if champion for protocol in ("rest", "grpc")}
    for each in found.values():
        assert each["against"] == followed[each["model"]]
        assert each["low"] <= each["ratio"] <= each["high"]
        assert each["verdict"] in ("faster", "slower", "no difference")


def test_tensorboard_has_all_three_on_the_same_axes(platform, run):
    name = f"lenet5/{directory(platform, run).name}"
    logs = EventMultiplexer().AddRunsFromDirectory(str(platform.settings.tensorboard_logs)).Reload()
    axes = {}
    for framework in LENET5.default_frameworks:
        points = {tag: logs.Tensors(f"{name}/{framework}", tag) for tag in logs.Runs()[f"{name}/{framework}"]["tensors"]}
        axes[framework] = {tag: [point.step for point in series] for tag, series in points.items()}
        assert tensor_util.make_ndarray(points["epoch/accuracy"][-1].tensor_proto) > 0.7
        assert tensor_util.make_ndarray(points["misclassified"][0].tensor_proto)[2].startswith(b"\x89PNG")
        assert "_hparams_/session_start_info" in points
        assert len(logs.Graph(f"{name}/{framework}").node) > 20
    assert axes["libtorch"] == axes["pytorch"] == axes["tensorflow"]
    assert axes["libtorch"]["epoch/loss"] == [1, 2]


@pytest.mark.parametrize("victim", ["libtorch_cpp/build/lenet5", "train_server.train"])
def test_a_trainer_killed_mid_epoch_leaves_nothing_and_the_retry_ends_right(platform, victim):
    fields = ("frameworks=libtorch", "samples=20000", "epochs=4", "benchmark_seconds=0")
    arguments = (*(word for field in fields for word in ("--param", field)), "--json")
    before = {known["dag_run"] for known in platform.json("models")}
    with platform.start("run", "lenet5", *arguments) as started:
        metrics = wait_for(lambda: list((platform.settings.runs / "lenet5").glob("*/libtorch.partial/metrics.jsonl")))[0]
        wait_for(lambda: metrics.read_text())  # an epoch has ended, the next has begun
        trainer = platform.processes("libtorch_cpp/build/lenet5")[0]
        os.kill(platform.processes(victim)[-1].pid, signal.SIGKILL)
        psutil.wait_procs([trainer], timeout=PATIENCE)
        assert not trainer.is_running()
        assert not Path(metrics.parent.parent / "libtorch").exists()

        _, errors = started.communicate(timeout=RUN_PATIENCE)
        assert started.returncode == 0, errors
    known = [known for known in platform.json("models") if known["dag_run"] not in before]
    assert len(known) == 1
    states = tracked(platform, known[0]["dag_run"].partition("/")[2])["libtorch"]
    assert sorted(states) == sorted(["FINISHED", "KILLED" if victim == "train_server.train" else "FAILED"])
    assert verify_version(metrics.parent.parent / "libtorch").metrics.accuracy == known[0]["accuracy"]
    assert not metrics.parent.exists()
    assert platform.processes("libtorch_cpp/build/lenet5") == []


def test_a_training_that_diverges_fails_the_run_and_says_where(platform):
    before = platform.json("models")
    done = platform.windtunnel("run", "lenet5", *SHORT, "--param", "frameworks=pytorch", "--param", "learning_rate=1e18", status=1)
    assert "in epoch 1, step " in done.stderr
    assert "lower learning_rate" in done.stderr
    assert platform.json("models") == before


def test_a_certificate_that_fails_names_the_number_that_missed(platform, run, tmp_path):
    copy = Path(shutil.copytree(directory(platform, run), tmp_path / "lenet5" / "copy"))
    mlflow = MlflowClient(platform.settings.mlflow_url)
    parent = mlflow.create_run(mlflow.get_experiment_by_name("lenet5").experiment_id).info.run_id
    write_json(copy / "lineage.json", run["result"]["lineage"] | {"mlflow_run": parent})
    probe = load_file(copy / "pytorch/probe.safetensors")
    probe["logits"] += 1e-4
    save_file(probe, copy / "pytorch/probe.safetensors")

    def execute(module, *arguments):
        command = [sys.executable, "-m", f"train_server.{module}", "--run", str(copy), *arguments]
        done = subprocess.run(command, env=platform.environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        return done.stderr

    assert "logits before the first step (libtorch, pytorch): found 0.0001, expected at most 1e-05" in execute("lenet5.parity")
    assert "lacks a parity certificate that passed (it failed)" in execute("reporting.report", "--started", "0")
    assert mlflow.get_run(parent).info.status == "FAILED"


def test_training_again_changes_nothing_wherever_it_was_cut_off(platform, run):
    here, mlflow = Run(directory(platform, run)), MlflowClient(platform.settings.mlflow_url)
    before = mlflow.get_registered_model("lenet5-pytorch").latest_versions
    command = [sys.executable, "-m", "train_server.train", "--run", str(here.directory), "--framework", "pytorch"]
    registered = json.loads(here.registered("pytorch").read_text())
    for cut_off in (False, True):
        if cut_off:  # before it was noted what the version has become
            here.registered("pytorch").unlink()
        done = subprocess.run(command, env=platform.environment, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "was trained by an earlier attempt of this task" in done.stdout
        again = json.loads(here.registered("pytorch").read_text())
        assert (again["version"], again["mlflow_run"]) == (registered["version"], registered["mlflow_run"])
        assert here.tracked("pytorch").read_text() == registered["mlflow_run"]
        assert mlflow.get_registered_model("lenet5-pytorch").latest_versions == before


def test_what_cannot_be_trained_is_said_before_anything_is(platform):
    done = platform.windtunnel("run", "lenet5", "--param", "samples=63", "--param", "frameworks=pytorch", status=1)
    assert "samples is 63, less than one batch of 64" in done.stderr


def test_a_cancelled_run_leaves_nothing_running_in_mlflow(platform):
    airflow, mlflow = Airflow(platform.settings), MlflowClient(platform.settings.mlflow_url)

    def start(**params):
        return airflow.trigger("lenet5", {"frameworks": ["libtorch"], **params})

    def cancel(run):
        airflow.http.patch(f"{runs_path('lenet5')}/{run}", json={"state": "failed"}).raise_for_status()

    def is_tracked(run, **states):
        wanted = {name.replace("whole", run): [state] for name, state in states.items()}
        wait_for(lambda: tracked(platform, run) == wanted, explain=lambda: f"{tracked(platform, run)}, wanted {wanted}")

    training = start(samples=20000, epochs=1000)
    is_tracked(training, whole="RUNNING", libtorch="RUNNING")
    other = start(samples=4000, epochs=1)
    is_tracked(other, whole="RUNNING")  # it waits for the trainer's place

    cancel(training)
    late = {"run_name": "late", "tags": {"dag_id": "lenet5", "run_id": training}}  # by a program that does not know it yet
    mlflow.create_run(mlflow.get_experiment_by_name("lenet5").experiment_id, **late)
    is_tracked(other, whole="RUNNING", libtorch="FINISHED")
    cancel(other)  # while it is published
    is_tracked(other, whole="KILLED", libtorch="FINISHED")
    is_tracked(training, whole="KILLED", libtorch="KILLED", late="KILLED")

    clear = {"dry_run": False, "dag_run_id": training, "task_ids": ["report"], "only_failed": False}
    airflow.http.post("/api/v2/dags/lenet5/clearTaskInstances", json=clear).raise_for_status()
    is_tracked(training, whole="FAILED", libtorch="KILLED", late="KILLED")  # as the report says now
