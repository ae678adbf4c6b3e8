"""`windtunnel bench` on the real servers, with a real registry."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from serving.backends.base import ServerError, Version, baseline_name
from serving.benchmark.benchmark import compare_versions, measure, write
from serving.benchmark.in_process_ceiling import forward, samples_per_second
from serving.benchmark.no_op import SCALE
from serving.benchmark.no_op_baseline import baselines, loaded, mark, place_of
from serving.benchmark.rounds import Cell
from serving.benchmark.subjects import find_subjects
from serving.release.release import Cause, Release, reconcile_all
from tests.processes import started
from tests.waiting import PATIENCE, RUN_PATIENCE
from train_server.lenet5.model import LENET5
from windtunnel.benchmark_result import Benchmark, read_benchmark
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT

NAME = baseline_name(LENET5)
WINDTUNNEL = Path(sys.executable).with_name("windtunnel")
CELLS = [(1, 1), (10, 1), (1, 8), (10, 8)]


@pytest.fixture(scope="module")
def champions(house, trained):
    """Version 1 of a model on each server, and on TensorFlow Serving a version 2, which is loaded too."""
    for framework in ("pytorch", "tensorflow"):
        house.register(trained(framework))
        Release(house.settings, f"lenet5-{framework}").promote(1, Cause("a test", "to measure it"))
    house.register(trained("tensorflow", seed=2))
    release = Release(house.settings, "lenet5-tensorflow")
    release.publish(2)
    release.verify(2)
    return [Release(house.settings, f"lenet5-{framework}").fetch(1) for framework in ("pytorch", "tensorflow")]


@pytest.fixture
def bench(house, champions):
    """Runs `windtunnel bench`."""

    def run(*arguments, **environment):
        command = [WINDTUNNEL, "bench", *arguments]
        return subprocess.run(command, env=house.environment | environment, cwd=ROOT, capture_output=True, text=True, timeout=RUN_PATIENCE)

    return run


@pytest.fixture(autouse=True)
def no_baseline_is_left(house, champions):
    yield
    for server in (house.server("torchserve"), house.server("tfserving")):
        assert NAME not in server.names()


def test_bench_measures_every_champion_over_every_protocol(bench, house):
    done = bench("--json", "--concurrency", "1,10", "--batch", "1,8", "--rounds", "2", "--seconds", "0.05")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert read_benchmark(house.settings.home / "benchmarks/bench.json") == Benchmark.model_validate(result)
    assert (result["rounds"], result["seconds"], result["partial"], result["comparisons"]) == (2, 0.05, False, [])
    assert result["models"] == {
        "lenet5-pytorch": {"framework": "pytorch", "version": 1, "server": "torchserve"},
        "lenet5-tensorflow": {"framework": "tensorflow", "version": 1, "server": "tfserving"},
    }
    cells = {(row["model"], row["protocol"], row["concurrency"], row["batch"]) for row in result["rows"] if row["loop"] == "closed"}
    assert cells == {(model, protocol, *cell) for model in result["models"] for protocol in ("rest", "grpc") for cell in CELLS}
    assert len(result["rows"]) == len(cells) + 4  # one open loop a model and protocol
    for row in result["rows"]:
        assert row["invalid"] is None
        assert all(0 < rate < 100_000 for rate in row["requests_per_second"])  # a test may run beside others
        assert all(0 < p50 <= p99 for p50, p99 in zip(row["p50"], row["p99"], strict=True))
        if row["loop"] == "open":
            assert (row["limit"], row["floor"], row["share_of_limit"], row["share_of_floor"]) == ([], [], None, None)
            assert row["offered"] >= 1
            continue
        rates, limits, floors = row["requests_per_second"], row["limit"], row["floor"]
        assert row["share_of_floor"] == pytest.approx(statistics.median(map(float.__truediv__, rates, floors)))
        assert row["share_of_limit"] == pytest.approx(
            statistics.median(rate * row["batch"] / limit for rate, limit in zip(rates, limits, strict=True))
        )
    machine = result["machine"]
    assert set(machine["generator_cores"]) < os.sched_getaffinity(0) or len(os.sched_getaffinity(0)) == 1
    assert set(machine["server_cores"]) == {"torchserve", "tfserving"}
    assert (machine["threads"], machine["versions"]["torch"]) == (1, torch.__version__)
    text = (house.settings.home / "benchmarks/bench.txt").read_text()
    assert "lenet5-pytorch@1" in text
    assert "open, " in text
    assert "no figure" not in text


def test_bench_says_whether_a_version_is_faster(bench):
    done = bench("lenet5-tensorflow@2", "--against", "1", "--rounds", "6", "--seconds", "0.05", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rows"] == []
    assert result["models"]["lenet5-tensorflow"]["version"] == 2
    assert [(row["protocol"], row["concurrency"], row["batch"]) for row in result["comparisons"]] == [("rest", 10, 1), ("grpc", 10, 1)]
    for row in result["comparisons"]:
        assert (row["model"], row["version"], row["against"], row["invalid"]) == ("lenet5-tensorflow", 2, 1, None)
        assert row["low"] <= row["ratio"] <= row["high"]
        assert row["seconds"] == 0.05
        assert row["verdict"] in ("faster", "slower", "no difference")


def test_ctrl_c_leaves_what_there_is_and_no_floor(house, champions):
    command = [WINDTUNNEL, "bench", "lenet5-tensorflow", "--rounds", "1000", "--seconds", "0.05", "--json"]
    with started(command, env=house.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("round 2/"):
                break
        assert NAME in house.server("tfserving").names()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    result = json.loads(output)
    assert result["partial"] is True
    assert json.loads((house.settings.home / "benchmarks/bench.json").read_text()) == result
    assert all(1 <= len(row["requests_per_second"]) < 1000 for row in result["rows"])
    assert "Partial" in (house.settings.home / "benchmarks/bench.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lenet5-none"], "there is no 'lenet5-none@champion' in the registry"),
        (["lenet5-tensorflow@9"], "there is no 'lenet5-tensorflow@9' in the registry"),
        (["lenet5-pytorch", "--batch", "1,two"], "invalid --batch: found '1,two'"),
        (["lenet5-pytorch", "--concurrency", "0"], "invalid --concurrency: found '0'"),
        (["lenet5-pytorch@1", "lenet5-pytorch@champion"], "versions of the same model"),
        (["--against", "1"], "Name one"),
        (["lenet5-pytorch", "--against", "7"], "there is no version 7 of 'lenet5-pytorch'"),
    ],
)
def test_what_cannot_be_measured_is_an_error(bench, arguments, said):
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr.splitlines()[-1]


def test_without_apachebench_there_is_no_figure(bench, tmp_path):
    done = bench("lenet5-pytorch", PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: ab, which measures REST, is not installed. Install it: apt-get install apache2-utils" in done.stderr


def test_a_version_that_is_not_loaded_is_an_error(house, trained, champions):
    house.register(trained("pytorch", seed=2))
    version = Release(house.settings, "lenet5-pytorch").fetch(2)
    with pytest.raises(
        WindtunnelError, match=r"lenet5-pytorch version 2 is not loaded on torchserve\. `windtunnel deploy lenet5-pytorch@2`"
    ):
        measure(house.settings, [version], [Cell(1, 1)], 1, 0.05, print)


def test_floors_are_measured_where_they_are_asked_for(house, champions):
    result = measure(house.settings, champions, [Cell(1, 1), Cell(10, 1)], 2, 0.05, print, open_loop=False, with_baseline=[Cell(10, 1)])
    for row in result.rows:
        assert (row.loop, row.invalid, len(row.limit)) == ("closed", None, 2)
        assert (len(row.floor), row.share_of_floor is None) == ((2, False) if row.concurrency == 10 else (0, True))


def mislabelled(version, directory, digits):
    """The version with other labels for these digits of its golden set than the one that is loaded gives."""
    shutil.copytree(version.directory, directory)
    golden = load_file(directory / "golden.safetensors")
    golden["label"][digits] = (golden["label"][digits] + 1) % 10
    save_file(golden, directory / "golden.safetensors")
    return replace(version, directory=directory)


def test_a_wrong_label_makes_a_row_invalid_and_no_other(house, champions, tmp_path):
    right, loaded = champions
    wrong = mislabelled(loaded, tmp_path / "1", slice(None))
    said = []
    result = measure(house.settings, [right, wrong], [Cell(1, 1)], 1, 0.05, said.append)
    assert [(row.model, row.invalid is None) for row in result.rows] == [
        ("lenet5-tensorflow", False),
        ("lenet5-pytorch", True),
    ] * 2
    for row in result.rows:
        assert len(row.requests_per_second) == len(row.p99) == len(row.floor) == (row.invalid is None)
        if row.invalid:
            assert "expected the trainer's" in row.invalid
            assert (row.share_of_limit, row.share_of_floor) == (None, None)
    assert any("without its in-process ceiling" in line for line in said)
    text = write(result, tmp_path / "bench.json")
    assert "no figure for lenet5-tensorflow@1 over rest" in text
    assert text == (tmp_path / "bench.txt").read_text()


def test_a_comparison_of_wrong_answers_has_no_verdict(house, champions, tmp_path):
    """ApacheBench asks for the first digit alone; here it is the last whose label is another."""
    loaded = champions[1]
    result = compare_versions(house.settings, mislabelled(loaded, tmp_path / "2", -1), loaded, [Cell(2, 1)], 6, 0.05, print)
    assert [row.protocol for row in result.comparisons] == ["rest", "grpc"]
    for row in result.comparisons:
        assert "expected the trainer's" in row.invalid
        assert (row.ratio, row.verdict) == (None, None)
    assert "no figure" in write(result, tmp_path / "bench.json")


def test_a_floor_answers_like_a_model_and_computes_none(house, champions):
    golden = load_file(champions[0].directory / "golden.safetensors")
    subjects = find_subjects(house.settings, champions)
    images, servers = mark(subjects[0]), [subject.server for subject in subjects]
    with baselines(subjects, pytest.fail) as published:
        answering = loaded(published, pytest.fail)
        for subject, server in zip(subjects, servers, strict=True):
            baseline = answering[place_of(subject)]
            for protocol in ("rest", "grpc"):
                found = server.predict(baseline.name, images, baseline.number, protocol)
                assert (found["logits"].argmax(axis=1) == golden["label"]).all()
                for output in ("logits", "probabilities"):
                    assert found[output] == pytest.approx(images[:, 0, :10, 0] * SCALE)
        for twin in (True, False):  # LiteRT's and TensorFlow's
            directory = published[place_of(subjects[1])].directory
            if not twin:
                (directory / "saved_model/model.tflite").unlink()
            compute = forward(Version("lenet5-tensorflow", 1, directory))
            assert compute(images) == pytest.approx(images[:, 0, :10, 0] * SCALE)
    for server in servers:
        with pytest.raises(ServerError):
            server.predict(NAME, images, 1)


def test_a_floor_that_was_left_behind_is_withdrawn_by_reconcile(house, champions):
    (subject,) = find_subjects(house.settings, champions[1:])
    with baselines([subject], pytest.fail) as published:
        subject.server.load(published[place_of(subject)])
        changes, problems = reconcile_all(house.settings)
        assert (f"{NAME} on tfserving: withdrew version 1" in changes, problems) == (True, [])


def test_the_limit_is_of_the_right_answers_alone(champions):
    for version in champions:
        golden = load_file(version.directory / "golden.safetensors")
        compute = forward(version)
        assert np.allclose(compute(golden["image"]), golden["logits"], rtol=1e-4, atol=1e-4)
        assert samples_per_second(compute, golden["image"][:8], golden["label"][:8], 0.05) > 0
        with pytest.raises(WindtunnelError, match="other labels than its trainer"):
            samples_per_second(compute, golden["image"][:8], golden["label"][:8] + 1, 0.05)


def test_a_server_that_is_down_is_an_error(bench, house):
    """The last test: it ends a server."""
    house.kill("torchserve")
    try:
        done = bench("lenet5-pytorch")
        assert (done.returncode, done.stdout) == (1, "")
        assert "error: torchserve does not answer" in done.stderr
    finally:
        house.start("torchserve")
