"""Measure what users get from served models: requests per second and latency over each protocol, compared with two reference rates.

    windtunnel bench

Every version is measured over each protocol of its server, with a number of concurrent clients (concurrency) and a number of samples per
request (batch): in a closed loop, by ApacheBench and serving.load.generators, and in an open loop, at half of the closed loop's rate. In
each round, everything is measured once, each served figure together with its in-process ceiling and its no-op baseline, so that a
slowdown of the machine affects all of them. Shares are computed within a round.

A figure counts only if every answer was right. Over gRPC and in the open loop, all answers are compared with the trainer's labels.
ApacheBench sends the same request repeatedly: every answer must have the right status and length, and every body that it prints in full is
compared with the labels (serving.load.generators.ab says which those are). In addition, all requests are sent and checked at the same
concurrency before the first round and after each round or, when two versions are compared, before and after the whole comparison. If one
answer is wrong, the row has an error message and no figure.

A share of the in-process ceiling above 1 is the gain from a server that batches requests. A share of the no-op baseline near 1 means that a
faster model would not help.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.backends.base import PROTOCOLS, Protocol, Version
from serving.backends.catalog import server_of
from serving.benchmark.comparison import CONFIDENCE, compare
from serving.benchmark.machine import describe, pinned
from serving.benchmark.no_op_baseline import baselines, loaded
from serving.benchmark.references import CEILING_SHARE, References, load_artefacts
from serving.benchmark.rounds import Case, Cell, Rounds
from serving.benchmark.subjects import Subject, find_subjects
from serving.benchmark.table import tabulate
from serving.load.requests import Requests
from windtunnel.benchmark_result import Benchmark, Comparison, Measured
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.locks import held
from windtunnel.measure import load_before
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, Settings

Say = Callable[[str], None]

CELLS_SHORT = (Cell(1, 1), Cell(10, 1), Cell(50, 1), Cell(1, 32))
"""The cells that every training run measures in a closed loop, as in the table in docs/benchmarks.md. `windtunnel bench` measures more."""

BASELINES_SHORT = (Cell(50, 1),)
"""The cells whose no-op baseline a training run measures, as in the table in docs/benchmarks.md."""

ROUNDS_SHORT = 3

ROUNDS = 5

USUAL_CELL = Cell(10, 1)
"""The cell in which two versions are compared. The open loop takes half of its closed-loop rate, so without it there is no open loop."""

TURN_SECONDS = 3600.0
"""Timeout for waiting until another benchmark ends."""

TIMES = 1.4  # a measurement takes longer than its seconds: it warms up and checks answers


def measure(
    settings: Settings,
    versions: Sequence[Version],
    cells: Sequence[Cell],
    rounds: int,
    seconds: float,
    say: Say,
    open_loop: bool = True,
    with_baseline: Sequence[Cell] | None = None,
) -> Benchmark:
    """Measure loaded versions, each by its number. Ctrl-C ends it early; the result then has the finished rounds and is `partial`.

    Args:
        settings: where the servers are.
        versions: versions of different models, with `golden.safetensors` and the artefact in their directories.
        cells: the concurrencies and batch sizes to measure.
        rounds: how often everything is measured.
        seconds: length of each measurement.
        say: called with each line of progress.
        open_loop: whether to measure in an open loop too, if `USUAL_CELL` is among the cells.
        with_baseline: the cells whose no-op baseline is measured; None for all.

    Raises:
        WindtunnelError: a server does not answer, a version is not loaded, or ApacheBench is not installed.
    """
    subjects = find_subjects(settings, versions)
    with _alone(settings, subjects, say) as origin:
        measuring = Rounds(_cases(subjects, cells, open_loop), cells if with_baseline is None else with_baseline, seconds, say)
        partial = False
        try:
            with baselines(subjects, say) as published:
                forwards = load_artefacts(subjects, say)  # while the servers load the baselines
                references = References(forwards, loaded(published, say), seconds, say)
                for number in range(rounds):
                    measuring.run(references, f"round {number + 1}/{rounds}")
        except KeyboardInterrupt:
            partial = True
        return Benchmark(**origin, partial=partial, rounds=rounds, seconds=seconds, rows=measuring.rows())


def compare_versions(
    settings: Settings, version: Version, against: Version, cells: Sequence[Cell], rounds: int, seconds: float, say: Say
) -> Benchmark:
    """Compare the rates of two versions of a model, measured alternately. The result is like that of `measure`, without rows."""
    before, after = find_subjects(settings, [against, version])
    with _alone(settings, [before, after], say) as origin:
        comparisons: list[Comparison] = []
        partial = False
        try:
            for cell, protocol in itertools.product(cells, after.server.protocols):
                found = _compare(before, after, protocol, cell, rounds, seconds)
                comparisons.append(found)
                say(f"{Case(after, protocol, 'closed', cell)}  {found.invalid or found.verdict}")
        except KeyboardInterrupt:
            partial = True
        return Benchmark(**origin, partial=partial, rounds=rounds, seconds=seconds, rows=[], comparisons=comparisons)


def write(result: Benchmark, file: Path) -> str:
    """Write a result as JSON into `file`, and as tables into the same path with the suffix `.txt`; return the tables."""
    text = tabulate(result)
    write_json(file, result.model_dump())
    write_atomically(file.with_suffix(".txt"), text.encode())
    return text


def seconds_needed(versions: Sequence[Version], cells: Sequence[Cell], rounds: int, seconds: float) -> float:
    """Estimate how long `measure` takes."""
    servers = len({server_of(version.name) for version in versions})
    asked = len(PROTOCOLS) * (len(cells) * (len(versions) + servers) + len(versions) * (USUAL_CELL in cells))
    computed = len(versions) * len({cell.batch for cell in cells})
    return rounds * seconds * (TIMES * asked + CEILING_SHARE * computed)


@contextmanager
def _alone(settings: Settings, subjects: Iterable[Subject], say: Say) -> Iterator[dict[str, Any]]:
    """Run one benchmark at a time, on a quiet machine, on its own cores.

    Yields:
        The part of the result that describes the machine and the time.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    models = {
        each.version.name: Measured(framework=each.framework.name, version=each.version.number, server=each.server.name)
        for each in subjects
    }
    # Two concurrent benchmarks would disturb each other, and share a baseline that the first one withdraws.
    with held(settings.serving / "locks" / "benchmark", "the benchmark", TURN_SECONDS, say), pinned() as cores:
        machine = describe(settings, sorted({model.server for model in models.values()}), load_before(), cores)
        yield {"commit": git_commit(ROOT), "started": started, "machine": machine, "models": models}


def _cases(subjects: Iterable[Subject], cells: Sequence[Cell], open_loop: bool) -> list[Case]:
    """Return all ways to measure the versions; versions that share a baseline are adjacent."""
    ordered = sorted(subjects, key=lambda subject: subject.server.name)
    asked = [(protocol, subject) for protocol in PROTOCOLS for subject in ordered if protocol in subject.server.protocols]
    cases = [Case(subject, protocol, "closed", cell) for cell in cells for protocol, subject in asked]
    if open_loop and USUAL_CELL in cells:
        cases += [Case(subject, protocol, "open", USUAL_CELL) for protocol, subject in asked]
    return cases


def _compare(before: Subject, after: Subject, protocol: Protocol, cell: Cell, rounds: int, seconds: float) -> Comparison:
    """Compare the rates of two versions of a model, checking all their requests before and after."""
    found: dict[str, Any]
    try:
        a, b = (subject.requests(protocol, cell.batch) for subject in (before, after))

        def rate(requests: Requests) -> float:
            return requests.slice(cell.concurrency, seconds).requests_per_second

        def check() -> None:
            a.check_all(cell.concurrency)
            b.check_all(cell.concurrency)

        check()
        found = asdict(compare(lambda: rate(a), lambda: rate(b), rounds))
        check()
    except WindtunnelError as error:
        found = {"rounds": rounds, "confidence": CONFIDENCE, "invalid": str(error)}
    return Comparison(
        model=after.version.name,
        version=after.version.number,
        against=before.version.number,
        server=after.server.name,
        protocol=protocol,
        concurrency=cell.concurrency,
        batch=cell.batch,
        seconds=seconds,
        **found,
    )
