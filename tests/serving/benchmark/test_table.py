"""A benchmark's result as JSON and as text, without a server."""

from serving.benchmark.table import tabulate
from tests.benchmark_results import benchmark, invalidate
from windtunnel.benchmark_result import Benchmark


def test_a_result_is_the_json_that_it_was_read_from():
    result = benchmark()
    assert Benchmark.model_validate(result).model_dump() == result


def test_the_text_says_what_has_no_figure_and_why():
    result = benchmark()
    wrong, missing = result["rows"][:2]
    invalidate(wrong, "the answer is wrong")
    invalidate(missing, None)
    text = tabulate(Benchmark.model_validate(result | {"partial": True}))
    assert ("no figure" in line_of(text, wrong), "not measured" in line_of(text, missing)) == (True, True)
    assert text.endswith(
        f"no figure for {wrong['model']}@3 over rest, 1 clients, batch 1: the answer is wrong\nPartial: the benchmark was interrupted.\n"
    )


def test_comparisons_are_added_to_a_result_and_so_is_an_interruption():
    whole = Benchmark.model_validate(benchmark())
    interrupted = Benchmark.model_validate(benchmark() | {"rows": [], "partial": True})
    both = whole.with_comparisons(interrupted)
    assert (both.rows, both.partial) == (whole.rows, True)
    assert both.comparisons == [*whole.comparisons, *interrupted.comparisons]


def line_of(text: str, row: dict[str, object]) -> str:
    """The table's first line about the model of a row, which is the line of its first cell."""
    return next(line for line in text.splitlines() if f"{row['model']}@" in line)
