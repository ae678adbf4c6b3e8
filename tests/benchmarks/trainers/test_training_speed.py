import json

import pytest

from benchmarks.trainers.training_speed import FORWARD, spread
from train_server.lenet5.model import LENET5


def test_lenet5_costs_what_it_is_said_to():
    assert FORWARD == 416_520


def test_spread_shows_the_median_and_the_range():
    assert spread([1000.0, 3000.0, 1200.0]) == "1,200 (1,000 to 3,000)"


def test_a_round_measures_trainers_tutorials_and_the_machine(execute, tmp_path):
    done = execute("trainers.training_speed", "--rounds", "1", "--scaling-rounds", "0", "--samples", "2048", "--threads", "1")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "benchmarks/train.json").read_text())
    assert set(result["frameworks"]) == set(LENET5.framework_names)
    # Units, not speed: how two of these compare is for the machine to say, which may be busy during one and not the other.
    assert 1e8 < result["sgemm_flops"][0] < 1e13
    for framework, row in result["frameworks"].items():
        assert 10 < row["ours"][0] < 1e7
        assert row["speedup"] == pytest.approx(row["ours"][0] / row["tutorial"][0])
        assert row["sgemm_share"] == pytest.approx(row["ours"][0] * 6 * FORWARD / result["sgemm_flops"][0])
        assert row["sgemm_share"] > 0.001
        assert 0.3 < row["accuracy"]["ours"] < 1
        assert framework in done.stdout


def test_the_figure_is_drawn_from_what_was_measured(execute, tmp_path):
    row = {"ours": [9.0, 10.0, 11.0], "tutorial": [2.0, 2.5, 3.0], "speedup": 4.0}
    scaling = {
        "samples_per_second": {framework: {"32": 8.0, "64": 10.0} for framework in LENET5.framework_names},
        "epoch_seconds": {framework: [1.0, 1.1] for framework in LENET5.framework_names},
    }
    result = {"samples": 20, "threads": 1, "frameworks": dict.fromkeys(LENET5.framework_names, row), "scaling": scaling}
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/train.json").write_text(json.dumps(result))
    done = execute("figures", "--out", str(tmp_path / "img"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "img/training_speed.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_without_measurements_says_how_to_measure(execute):
    done = execute("figures")
    assert done.returncode == 1
    assert "make bench-train" in done.stderr
    assert done.stderr.count("\n") == 1
