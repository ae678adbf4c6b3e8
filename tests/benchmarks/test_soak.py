"""What the figures of a soak mean; `make bench-soak` is the measurement."""

import pytest

from benchmarks.soak import MIB, Look, Use, failed, slope, tabulate
from serving.load.generators import Sample


def looks(*sizes: float) -> list[Look]:
    """One a minute, of a process of so many MiB."""
    return [Look(60.0 * minute, {"server": Use(int(size * MIB), 10, 3)}, {}, {}) for minute, size in enumerate(sizes)]


def test_what_is_filled_once_has_no_slope_and_what_grows_has_one() -> None:
    assert slope(looks(100, 150, 180, 200, 200, 200), "server") == pytest.approx(0)
    assert slope(looks(100, 100, 100, 102, 104, 106), "server") == pytest.approx(2, abs=0.01)
    assert slope(looks(100, 100, 100, 102, 101, 100), "server") < 0
    assert slope(looks(100, 100), "another") == 0


def test_no_answer_and_the_answer_of_neither_version_have_failed() -> None:
    assert failed([Sample(0, 0, 1, answer) for answer in (1, 2, None, TimeoutError())]) == 2


def test_files_and_rows_that_have_grown_in_the_second_half_are_named() -> None:
    found = [
        Look(0, {}, {}, {}),
        Look(60, {}, {"tmp": 3, "logs": 7}, {"mlflow.runs": 4}),
        Look(120, {}, {"tmp": 5, "logs": 7}, {"mlflow.runs": 4}),
    ]
    text = tabulate({"tfserving rest": [Sample(0, 0, 0.5, 1)]}, found)
    assert "Grown in the second half: files in tmp: 3 to 5\n" in text
    assert "500.0 ms" in text
