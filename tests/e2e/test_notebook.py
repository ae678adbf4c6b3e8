"""The notebook, run from top to bottom against a platform with champions, as a person would, but with short measurements."""

import json
import re

import jupytext
import papermill
import pytest

from windtunnel.settings import ROOT

NOTEBOOK = ROOT / "notebooks/lenet5_benchmark.ipynb"
SHORT = {"rounds": 1, "seconds": 0.3, "concurrency": [10], "batch": [1], "requests": 100}
PLOTS = 2 + 5 + 4  # digits and predictions, serving, training


def outputs(file):
    """What a notebook's cells have put out: all text, and the pictures."""
    found = [output for cell in json.loads(file.read_text())["cells"] for output in cell.get("outputs", [])]
    texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in found]
    pictures = [output["data"]["image/png"] for output in found if "image/png" in output.get("data", {})]
    assert [output for output in found if output["output_type"] == "error"] == []
    return "\n".join("".join(text) for text in texts), pictures


@pytest.fixture(scope="module")
def executed(platform, champions, tmp_path_factory):
    file = tmp_path_factory.mktemp("notebook") / "executed.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in platform.settings.variables.items():
            patch.setenv(name, value)
        papermill.execute_notebook(NOTEBOOK, file, SHORT, progress_bar=False)
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


def test_what_is_in_the_repository_is_executed_and_small_and_names_no_machine():
    text, pictures = outputs(NOTEBOOK)
    assert len(pictures) == PLOTS
    assert NOTEBOOK.stat().st_size < 300_000
    assert not re.search(r"/(home|root|tmp|work|opt|Users)/", NOTEBOOK.read_text())
    assert "no figure" not in text


def test_the_pair_is_in_step():
    pair = jupytext.read(NOTEBOOK.with_suffix(".py"))
    notebook = jupytext.read(NOTEBOOK)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [(cell.cell_type, cell.source) for cell in pair.cells]


def test_the_notebook_imports_and_does_not_define():
    text = NOTEBOOK.with_suffix(".py").read_text()
    assert not re.search(r"^\s*(def|class) ", text, re.MULTILINE)
