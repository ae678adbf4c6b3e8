"""Format a benchmark's result as text."""

import statistics
from collections.abc import Sequence

from rich.table import Table

from windtunnel.benchmark_result import Benchmark, Comparison, Row
from windtunnel.measure import spread
from windtunnel.tables import render

ROWS = ("model", "protocol", "loop", "clients", "batch", "requests/s", "p50, ms", "p99, ms", "of ceiling", "of baseline")
COMPARISONS = ("model", "against", "protocol", "clients", "batch", "rounds", "each", "ratio", "verdict")
LEFT = ("model", "protocol", "loop", "verdict")


def tabulate(result: Benchmark) -> str:
    """Format the result of a benchmark as tables, followed by a message for each row that has no figure."""
    text = ""
    if result.rows:
        title = f"Requests per second: medians of {result.rounds} rounds of {result.seconds:g} s per measurement (minimum to maximum)"
        text += _table(title, ROWS, [_row(row) for row in result.rows])
    if result.comparisons:
        title = "Requests per second as a multiple of the other version's"
        text += _table(title, COMPARISONS, [_comparison(row) for row in result.comparisons])
    for row in result.invalid:
        where = f"{row.model}@{row.version} over {row.protocol}, {row.concurrency} clients, batch {row.batch}"
        text += f"no figure for {where}: {row.invalid}\n"
    return text + ("Partial: the benchmark was interrupted.\n" if result.partial else "")


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in LEFT else "right")
    for row in rows:
        table.add_row(*row)
    return render(table)


def _row(row: Row) -> list[str]:
    loop = f"{row.loop}, {row.offered:g}/s" if row.offered else row.loop
    clients = str(row.concurrency) if row.loop == "closed" else ""  # an open loop has a rate instead
    asked = [f"{row.model}@{row.version}", row.protocol, loop, clients, str(row.batch)]
    if not row.measured:
        return [*asked, "no figure" if row.invalid else "not measured", "", "", "", ""]
    latencies = [f"{1000 * statistics.median(seconds):.2f}" for seconds in (row.p50, row.p99)]
    shares = ["" if share is None else f"{share:.0%}" for share in (row.share_of_limit, row.share_of_floor)]
    return [*asked, spread(row.requests_per_second), *latencies, *shares]


def _comparison(row: Comparison) -> list[str]:
    asked = [f"{row.model}@{row.version}", f"@{row.against}", row.protocol, str(row.concurrency), str(row.batch)]
    if row.invalid:
        return [*asked, "", "", "no figure", ""]
    ratio = f"{row.ratio:.3f} ({row.low:.3f} to {row.high:.3f})"
    return [*asked, str(row.rounds), f"{row.seconds:g} s", ratio, f"{row.verdict}, {row.confidence:.0%} confidence"]
