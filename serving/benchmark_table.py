"""A benchmark's result as text."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from windtunnel.measure import spread
from windtunnel.tables import render

ROW = ("model", "protocol", "loop", "clients", "batch", "requests/s", "p50, ms", "p99, ms", "of limit", "of floor")
COMPARISON = ("model", "against", "protocol", "clients", "batch", "rounds", "each", "ratio", "verdict")
LEFT = ("model", "protocol", "loop", "verdict")


def tabulate(result: Mapping[str, Any]) -> str:
    """The result of `serving.benchmark` for people; under the tables a sentence for each row that has no figure."""
    text = ""
    if result["rows"]:
        title = f"Requests a second, medians of {result['rounds']} rounds of {result['seconds']:g} s a measurement (least to most)"
        text += _table(title, ROW, [_row(row) for row in result["rows"]])
    if result["comparisons"]:
        title = "Requests a second as a multiple of the other version's"
        text += _table(title, COMPARISON, [_comparison(row) for row in result["comparisons"]])
    for row in [*result["rows"], *result["comparisons"]]:
        if row["invalid"]:
            where = f"{row['model']}@{row['version']} over {row['protocol']}, {row['concurrency']} clients, batch {row['batch']}"
            text += f"no figure for {where}: {row['invalid']}\n"
    return text + ("Partial: it was interrupted.\n" if result["partial"] else "")


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in LEFT else "right")
    for row in rows:
        table.add_row(*row)
    return render(table)


def _row(row: Mapping[str, Any]) -> list[str]:
    loop, clients = row["loop"], str(row["concurrency"])
    if loop == "open":  # which has a rate, and as many clients as it takes
        loop, clients = f"open, {row['offered']:g}/s" if row["offered"] else "open", ""
    asked = [f"{row['model']}@{row['version']}", row["protocol"], loop, clients, str(row["batch"])]
    if not row["requests_per_second"]:
        return [*asked, "no figure" if row["invalid"] else "not measured", "", "", "", ""]
    latencies = [f"{1000 * statistics.median(row[name]):.2f}" for name in ("p50", "p99")]
    shares = ["" if (share := row[name]) is None else f"{share:.0%}" for name in ("share_of_limit", "share_of_floor")]
    return [*asked, spread(row["requests_per_second"]), *latencies, *shares]


def _comparison(row: Mapping[str, Any]) -> list[str]:
    asked = [f"{row['model']}@{row['version']}", f"@{row['against']}", row["protocol"], str(row["concurrency"]), str(row["batch"])]
    if row["invalid"]:
        return [*asked, "", "", "no figure", ""]
    ratio = f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return [*asked, str(row["rounds"]), f"{row['seconds']:g} s", ratio, f"{row['verdict']}, {row['confidence']:.0%} confidence"]
