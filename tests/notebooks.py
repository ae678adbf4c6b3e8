"""Notebooks: what they have put out, and whether they are fit to be read in the repository."""

import json
import re
from pathlib import Path
from typing import Any

import jupytext
import papermill

from tests.waiting import PATIENCE


def execute(file: Path, executed: Path, parameters: dict[str, Any], **rest: Any) -> None:
    """Run a notebook from top to bottom; its kernel may take long to start and to answer."""
    patience = {"start_timeout": int(PATIENCE), "iopub_timeout": int(PATIENCE)}
    papermill.execute_notebook(file, executed, parameters, progress_bar=False, **patience, **rest)


def outputs(file: Path) -> tuple[str, list[str]]:
    """What a notebook's cells have put out: all text, and the pictures."""
    found = _outputs(file)
    texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in found]
    pictures = [output["data"]["image/png"] for output in found if "image/png" in output.get("data", {})]
    assert [output for output in found if output["output_type"] == "error"] == []
    return "\n".join("".join(text) for text in texts), pictures


def recordings(file: Path) -> int:
    """How many recordings a notebook lets one listen to."""
    return sum("<audio" in "".join(output.get("data", {}).get("text/html", "")) for output in _outputs(file))


def assert_fit_to_be_read(file: Path, most_bytes: int) -> None:
    """Executed in order, small, naming no machine, defining nothing; in step with the `.py` beside it."""
    notebook, pair = jupytext.read(file), jupytext.read(file.with_suffix(".py"))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [(cell.cell_type, cell.source) for cell in pair.cells]
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert file.stat().st_size < most_bytes
    assert not re.search(r"/(home|root|tmp|work|opt|Users)/", file.read_text())
    assert not re.search(r"^\s*(def|class) ", file.with_suffix(".py").read_text(), re.MULTILINE)


def _outputs(file: Path) -> list[dict[str, Any]]:
    return [output for cell in json.loads(file.read_text())["cells"] for output in cell.get("outputs", [])]
