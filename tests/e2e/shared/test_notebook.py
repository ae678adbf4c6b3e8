"""The notebook, run from top to bottom against a platform with champions, as a person would, but with short measurements."""

import re

import pytest

from tests.notebooks import assert_fit_to_be_read, execute, outputs
from windtunnel.settings import ROOT

NOTEBOOK = ROOT / "notebooks/lenet5_benchmark.ipynb"
SHORT = {"rounds": 1, "seconds": 0.3, "concurrency": [10], "batch": [1], "requests": 100}
PLOTS = 2 + 5 + 4  # digits and predictions, serving, training


@pytest.fixture(scope="module")
def executed(platform, champions, tmp_path_factory):
    file = tmp_path_factory.mktemp("notebook") / "executed.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in platform.settings.variables.items():
            patch.setenv(name, value)
        execute(NOTEBOOK, file, SHORT)
    return file


def test_every_prediction_is_what_the_trainer_said(executed):
    text, _ = outputs(executed)
    rows = re.findall(r"lenet5-(libtorch|pytorch|tensorflow) +│ (REST|gRPC) +│ (\d+) of (\d+) ", text)
    assert {row[:2] for row in rows} == {
        (framework, way) for framework in ("libtorch", "pytorch", "tensorflow") for way in ("REST", "gRPC")
    }
    assert len(rows) == 6
    assert all(right == asked and int(asked) >= 5 for _, _, right, asked in rows)


def test_ab_had_no_failed_request(executed):
    text, _ = outputs(executed)
    assert re.findall(r"(Complete|Failed) requests: +(\d+)", text) == 2 * [("Complete", "100"), ("Failed", "0")]
    assert "Non-2xx" not in text


def test_every_way_to_ask_has_a_figure_and_the_plots_are_drawn(executed):
    text, pictures = outputs(executed)
    assert "no figure" not in text
    rows = re.findall(r"lenet5-\w+ +│ (?:rest|grpc) +│ 10 +│ 1 +│ [\d,]+ +│ [\d.]+ +│ [\d.]+ +│ \d+% +│ \d+% ", text)
    assert len(rows) == 6
    assert len(pictures) == PLOTS


def test_what_is_in_the_repository_is_fit_to_be_read():
    assert_fit_to_be_read(NOTEBOOK, 300_000)
    text, pictures = outputs(NOTEBOOK)
    assert len(pictures) == PLOTS
    assert "no figure" not in text
