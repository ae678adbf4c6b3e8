import json

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.util import tensor_util

from tests.benchmark_results import benchmark, invalidate
from train_server.reporting.benchmark_tracking import record
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_json
from windtunnel.run import Run

NAME = "lenet5/manual__1"


@pytest.fixture
def run(mlflow, tmp_path):
    """A run that was measured, of two frameworks; PyTorch's usual REST row is invalid."""
    here = Run(tmp_path / NAME)
    frameworks = ["libtorch", "pytorch"]
    here.directory.mkdir(parents=True)
    lineage = {"dag_id": "lenet5", "run_id": "manual__1", "git_commit": "c0ffee", "mlflow_run": "parent", "frameworks": frameworks}
    write_json(here.lineage_file, lineage)
    for framework in frameworks:
        experiment = mlflow.get_experiment_by_name("lenet5").experiment_id
        here.tracked(framework).write_text(mlflow.create_run(experiment).info.run_id)
    result = benchmark()
    invalidate(result["rows"][7], "1 of 100 answers was wrong")
    assert (result["rows"][7]["model"], result["rows"][7]["concurrency"]) == ("lenet5-pytorch", 10)
    write_json(here.benchmark, result)
    return here


def points(logs, framework, tag):
    """Step and value of what TensorBoard shows of a tag."""
    read = EventMultiplexer().AddRunsFromDirectory(str(logs)).Reload()
    return [(point.step, float(tensor_util.make_ndarray(point.tensor_proto))) for point in read.Tensors(f"{NAME}/{framework}", tag)]


def test_mlflow_holds_the_medians_with_the_version(mlflow, run, tmp_path):
    said = list(record(run, mlflow, tmp_path / "logs"))
    assert said[0] == "libtorch: 56 metrics recorded, 0 invalid rows"
    data = mlflow.get_run(run.tracked("libtorch").read_text()).data
    row = json.loads(run.benchmark.read_text())["rows"][0]
    assert data.metrics["serving_rest_c1_b1_requests_per_second"] == sorted(row["requests_per_second"])[2]
    assert data.metrics["serving_rest_c1_b1_p99_ms"] == pytest.approx(1000 * sorted(row["p99"])[2])
    assert data.metrics["serving_rest_c1_b1_share_of_floor"] == pytest.approx(row["share_of_floor"])
    assert "serving_grpc_open_c10_b1_p99_ms" in data.metrics


def test_an_invalid_row_is_a_tag_that_says_why_and_no_metric(mlflow, run, tmp_path):
    list(record(run, mlflow, tmp_path / "logs"))
    data = mlflow.get_run(run.tracked("pytorch").read_text()).data
    assert data.tags["serving_rest_c10_b1_invalid"] == "1 of 100 answers was wrong"
    assert not [name for name in data.metrics if name.startswith("serving_rest_c10_b1")]
    assert "serving_grpc_c10_b1_p50_ms" in data.metrics


def test_tensorboard_shows_the_frameworks_over_concurrency(mlflow, run, tmp_path):
    list(record(run, mlflow, tmp_path / "logs"))
    tag = "serving_rest_b1/requests_per_second"
    assert [step for step, _ in points(tmp_path / "logs", "libtorch", tag)] == [1, 10, 50]
    assert [step for step, _ in points(tmp_path / "logs", "pytorch", tag)] == [1, 50]
    assert len(points(tmp_path / "logs", "libtorch", "final/rest_requests_per_second")) == 1


def test_recording_again_doubles_nothing_and_another_measurement_takes_the_place(mlflow, run, tmp_path):
    for _ in range(2):
        list(record(run, mlflow, tmp_path / "logs"))
    holder = run.tracked("pytorch").read_text()
    assert len(mlflow.get_metric_history(holder, "serving_rest_c1_b1_p50_ms")) == 1
    assert len(list((tmp_path / "logs" / NAME / "pytorch").iterdir())) == 1

    write_json(run.benchmark, benchmark() | {"started": "2026-11-23T12:00:00+00:00"})
    list(record(run, mlflow, tmp_path / "logs"))
    assert [step for step, _ in points(tmp_path / "logs", "pytorch", "serving_rest_b1/p50_ms")] == [1, 10, 50]
    assert not [name for name in mlflow.get_run(holder).data.tags if name.endswith("_invalid")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"benchmark\.json is not the result of a benchmark: commit: Field required; measure again"),
        ("{", r"benchmark\.json is not the result of a benchmark: Invalid JSON"),
    ],
)
def test_what_cannot_be_recorded_is_said(mlflow, run, tmp_path, content, message):
    run.benchmark.write_text(content)
    with pytest.raises(WindtunnelError, match=message):
        list(record(run, mlflow, tmp_path / "logs"))
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("partial", [False, True])
def test_a_run_that_was_not_measured_to_the_end_leaves_nothing(mlflow, run, tmp_path, partial):
    run.benchmark.unlink()
    if partial:
        write_json(run.benchmark, benchmark() | {"partial": True})
    assert list(record(run, mlflow, tmp_path / "logs")) == []
    assert not (tmp_path / "logs").exists()


def test_a_version_that_nobody_tracks_is_said(mlflow, run, tmp_path):
    run.tracked("libtorch").unlink()
    with pytest.raises(WindtunnelError, match=r"libtorch\.mlflow_run is missing: libtorch has not been trained in this run"):
        list(record(run, mlflow, tmp_path / "logs"))
