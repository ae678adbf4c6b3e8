"""What users get from served models: requests a second and latencies, over each protocol, beside what artefact and server could give.

    windtunnel bench

Every version is asked over REST and gRPC, by so many clients at once (concurrency) for so many digits a request (batch): in a closed
loop, by ApacheBench and serving.load, and in an open one, at half of the rate that the closed one gave. In each round everything is
measured once, each served figure beside its limit and its floor, so that a machine that slows down slows all of it: shares are of one
round.

A figure counts only if every answer was right. Over gRPC and in the open loop all answers are held against the labels that the trainer
gave. ApacheBench sends one request again and again: every answer must have the status and the length, every body that it prints as a
whole is held against the labels (serving.load.ab says which those are), and all requests are sent and checked at the same concurrency
before the first round and after each; where two versions take turns, before and after all of their turns. One that is wrong, and the
row has a sentence and no figure.

A share of the limit (serving.limit) above 1 is what a server gains that puts requests together, a share of the floor (serving.floor)
near 1 says that there is nothing left to gain in the model.
"""

import itertools
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from serving.benchmark_table import tabulate
from serving.comparison import CONFIDENCE, compare
from serving.floor import floors, mark
from serving.limit import Forward, forward, images_per_second
from serving.load import Figures
from serving.machine import describe, pinned
from serving.requests import Requests, batches
from serving.server import PROTOCOLS, Protocol, Server, Version
from serving.servers import connect, server_of
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.locks import held
from windtunnel.measure import load_before
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, Settings

Say = Callable[[str], None]


class Cell(NamedTuple):
    """How a server is asked: by how many clients at once, for how many images a request."""

    concurrency: int
    batch: int


CELLS_SHORT = (Cell(1, 1), Cell(10, 1), Cell(50, 1), Cell(1, 32))
"""For every training run: what the table in the README shows, in a closed loop. `windtunnel bench` measures more."""

FLOORS_SHORT = (Cell(50, 1),)
"""Where a training run measures the floor too, as the README's table shows it."""

ROUNDS_SHORT = 3

ROUNDS = 5

USUAL_CELL = Cell(10, 1)
"""Where two versions are compared; from its rate in the closed loop that of the open one follows, so without it there is no open loop."""

OPEN_SHARE = 0.5
OPEN_MOST = 500.0  # requests a second, which the generator sends in time beside a server on two cores
TURN_SECONDS = 3600.0
"""How long a benchmark waits for another to end."""

LIMIT_SHARE = 1 / 3
"""Of the seconds of a measurement: a limit, which has no server and no other process in it, varies less."""

TIMES = 1.4  # a measurement takes longer than its seconds: it warms up and checks


@dataclass
class Row:
    """One way to ask a version, and what was found: a value a round in each list. Without limits or floors those lists are empty."""

    version: Version
    protocol: Protocol
    loop: Literal["closed", "open"]
    cell: Cell
    offered: float | None = None
    figures: list[Figures] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    invalid: str | None = None

    def add(self, figures: Figures, limit: float | None, floor: float | None) -> None:
        """Add what a round found."""
        self.figures.append(figures)
        self.limits += [] if limit is None else [limit]
        self.floors += [] if floor is None else [floor]

    def result(self) -> dict[str, Any]:
        """The row for the result; an invalid one holds no figure."""
        figures = [] if self.invalid else self.figures
        rates = [each.requests_per_second for each in figures]
        limits, floors = (values if len(values) == len(rates) else [] for values in (self.limits, self.floors))
        return {
            "model": self.version.name,
            "version": self.version.number,
            "framework": _framework(self.version),
            "server": server_of(self.version.name),
            "protocol": self.protocol,
            "loop": self.loop,
            "concurrency": self.cell.concurrency,
            "batch": self.cell.batch,
            "offered": self.offered,
            "requests_per_second": rates,
            "p50": [each.p50 for each in figures],
            "p99": [each.p99 for each in figures],
            "limit": limits,
            "floor": floors,
            "share_of_limit": _share([rate * self.cell.batch for rate in rates], limits),
            "share_of_floor": _share(rates, floors),
            "invalid": self.invalid,
        }


class Bench:
    """What takes part in a benchmark: servers, versions, and the requests to them."""

    def __init__(self, settings: Settings, versions: Sequence[Version], seconds: float, say: Say) -> None:
        """Take no measure yet.

        Raises:
            WindtunnelError: a server does not answer, a version is not loaded, or ApacheBench is not installed.
        """
        self.seconds = seconds
        self.say = say
        self.servers = {name: connect(name, settings) for name in sorted({server_of(version.name) for version in versions})}
        self.floors: dict[str, Version] = {}
        self._forwards: dict[Version, Forward] = {}
        self._golden = {version: load_file(version.directory / "golden.safetensors") for version in versions}
        if not shutil.which("ab"):
            raise WindtunnelError("ab, which measures over REST, is not installed: apt-get install apache2-utils")
        for version in versions:
            server = self.server(version)
            if version.number not in server.served(version.name).versions:
                loads = f"`windtunnel deploy {version.name}@{version.number}` loads it, and lets users get it"
                raise WindtunnelError(f"{version} is not loaded on {server.name}: {loads}")

    def server(self, version: Version) -> Server:
        """The server of a version."""
        return self.servers[server_of(version.name)]

    def requests(self, version: Version, protocol: Protocol, batch: int) -> Requests:
        """Requests for the golden set."""
        golden = self._golden[version]
        return self.server(version).requests(version.name, batches(golden["image"], golden["label"], batch), version.number, protocol)

    def floor(self, version: Version, protocol: Protocol, cell: Cell) -> float | None:
        """Requests a second that the server of a version answers without a model; None where it has no floor."""
        server = self.server(version)
        if server.name not in self.floors:
            return None
        floor, golden = self.floors[server.name], self._golden[version]
        images = mark(golden["image"], golden["label"])
        try:
            requests = server.requests(floor.name, batches(images, golden["label"], cell.batch), floor.number, protocol)
            # The answers to what is sent are checked; those to the other images, which nobody asks for, say nothing of the floor.
            return requests.slice(cell.concurrency, self.seconds).requests_per_second
        except WindtunnelError as error:
            self.say(f"{server.name} is measured without its floor: {error}")
            del self.floors[server.name]
            return None

    def load_artefacts(self) -> None:
        """Load what computes the limits; with the import of the runtimes that takes seconds."""
        for version in self._golden:
            try:
                self._forwards[version] = forward(version)
            except WindtunnelError as error:
                self.say(f"{version} is measured without its limit: {error}")

    def limit(self, version: Version, batch: int) -> float | None:
        """Images a second that a version's artefact computes in process; None where it cannot be computed here."""
        if version not in self._forwards:
            return None
        golden = self._golden[version]
        places = np.arange(batch) % len(golden["image"])
        images, labels = golden["image"][places], golden["label"][places]
        try:
            return images_per_second(self._forwards[version], images, labels, LIMIT_SHARE * self.seconds)
        except WindtunnelError as error:
            self.say(f"{version} is measured without its limit: {error}")
            del self._forwards[version]
            return None


def measure(
    settings: Settings,
    versions: Sequence[Version],
    cells: Sequence[Cell],
    rounds: int,
    seconds: float,
    say: Say,
    open_loop: bool = True,
    floored: Sequence[Cell] | None = None,
) -> dict[str, Any]:
    """Measure versions that are loaded, each asked for by its number. Ctrl-C ends it early: the result is what there is, and `partial`.

    Args:
        settings: where the servers are.
        versions: of different models, with `golden.safetensors` and the artefact in their directories.
        cells: how they are asked.
        rounds: how often everything is measured.
        seconds: of each measurement.
        say: called with a line of progress.
        open_loop: whether to ask in an open loop too, if `USUAL_CELL` is among the cells.
        floored: those of the cells that are measured beside their floor; None for all.

    Returns:
        What `windtunnel.benchmark` reads.

    Raises:
        WindtunnelError: a server does not answer, a version is not loaded, or ApacheBench is not installed.
    """
    with _alone(settings, versions, rounds, seconds, say) as (bench, result):
        ordered = sorted(versions, key=lambda version: server_of(version.name))  # those that share a floor beside each other
        rows = [Row(version, protocol, "closed", cell) for cell in cells for protocol in PROTOCOLS for version in ordered]
        if open_loop and USUAL_CELL in cells:
            rows += [Row(version, protocol, "open", USUAL_CELL) for protocol in PROTOCOLS for version in ordered]
        try:
            with floors(bench.servers.values(), say, meanwhile=bench.load_artefacts) as bench.floors:
                for number in range(rounds):
                    _round(bench, rows, cells if floored is None else floored, f"round {number + 1}/{rounds}")
        except KeyboardInterrupt:
            result["partial"] = True
        result["rows"] = [row.result() for row in rows]
        return result


def compare_versions(
    settings: Settings, version: Version, against: Version, cells: Sequence[Cell], rounds: int, seconds: float, say: Say
) -> dict[str, Any]:
    """Is a version faster or slower than another of its model? Measured in turn; the result is like that of `measure`, with no rows."""
    with _alone(settings, [against, version], rounds, seconds, say) as (bench, result):
        try:
            for cell, protocol in itertools.product(cells, PROTOCOLS):
                found = _compare(bench, version, against, protocol, cell, rounds)
                result["comparisons"].append(found)
                say(f"{_describe(version, protocol, 'closed', cell)}  {found['invalid'] or found['verdict']}")
        except KeyboardInterrupt:
            result["partial"] = True
        return result


def write(result: Mapping[str, Any], file: Path) -> str:
    """Write a result as JSON into `file` and as tables into the file beside it that ends in `.txt`; return the tables."""
    text = tabulate(result)
    write_json(file, result)
    write_atomically(file.with_suffix(".txt"), text.encode())
    return text


def seconds_needed(versions: Sequence[Version], cells: Sequence[Cell], rounds: int, seconds: float) -> float:
    """How long `measure` takes, about."""
    servers = len({server_of(version.name) for version in versions})
    asked = len(PROTOCOLS) * (len(cells) * (len(versions) + servers) + len(versions) * (USUAL_CELL in cells))
    computed = len(versions) * len({cell.batch for cell in cells})
    return rounds * seconds * (TIMES * asked + LIMIT_SHARE * computed)


@contextmanager
def _alone(
    settings: Settings, versions: Sequence[Version], rounds: int, seconds: float, say: Say
) -> Iterator[tuple[Bench, dict[str, Any]]]:
    """One benchmark at a time, on a quiet machine, on cores of its own: who takes part, and the result, in which nothing is found yet."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    bench = Bench(settings, versions, seconds, say)
    models = {each.name: {"framework": _framework(each), "version": each.number, "server": server_of(each.name)} for each in versions}
    # Two benchmarks at once would measure each other, and share a floor that the first withdraws.
    with held(settings.serving / "locks" / "benchmark", "the benchmark", TURN_SECONDS, say), pinned() as cores:
        machine = describe(settings, bench.servers, load_before(), cores)
        head = {"commit": git_commit(ROOT), "started": started, "partial": False, "rounds": rounds, "seconds": seconds, "machine": machine}
        yield bench, {**head, "models": models, "rows": [], "comparisons": []}


def _round(bench: Bench, rows: Sequence[Row], floored: Sequence[Cell], name: str) -> None:
    """Measure every row that is still valid once: first the limits, then, server by server, each way to ask it and its floor."""
    valid = [row for row in rows if not row.invalid]
    limits = {key: bench.limit(*key) for key in dict.fromkeys((row.version, row.cell.batch) for row in valid)}
    for (loop, _, _, _), group in itertools.groupby(valid, lambda row: (row.loop, row.cell, row.protocol, server_of(row.version.name))):
        found = [(row, figures) for row in group if (figures := _figures(bench, rows, row, name))]
        if not found:
            continue
        first = found[0][0]
        floor = bench.floor(first.version, first.protocol, first.cell) if loop == "closed" and first.cell in floored else None
        for row, figures in found:
            row.add(figures, limits[row.version, row.cell.batch] if loop == "closed" else None, floor)


def _figures(bench: Bench, rows: Sequence[Row], row: Row, name: str) -> Figures | None:
    """What one measurement of a row finds; nothing of a row that is invalid from then on."""
    try:
        requests = bench.requests(row.version, row.protocol, row.cell.batch)
        if row.loop == "closed":
            found = requests.closed(row.cell.concurrency, bench.seconds, checked=bool(row.figures))
        else:
            row.offered = row.offered or _rate_to_offer(rows, row)
            found = requests.open(row.offered, bench.seconds)
    except WindtunnelError as error:
        row.invalid = str(error)
    said = row.invalid or f"{found.requests_per_second:,.0f} requests/s"
    bench.say(f"{name}  {_describe(row.version, row.protocol, row.loop, row.cell)}  {said}")
    return None if row.invalid else found


def _rate_to_offer(rows: Sequence[Row], row: Row) -> float:
    """Half of what the same version gave in the closed loop just before."""
    key = (row.version, row.protocol, "closed", USUAL_CELL)
    closed = next(each for each in rows if (each.version, each.protocol, each.loop, each.cell) == key)
    if closed.invalid:
        raise WindtunnelError(f"the closed loop, of whose rate the open one takes half, has none: {closed.invalid}")
    return float(max(1, round(min(OPEN_MOST, OPEN_SHARE * closed.figures[-1].requests_per_second))))


def _compare(bench: Bench, version: Version, against: Version, protocol: Protocol, cell: Cell, rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(("ratio", "low", "high", "verdict"))
    invalid = None
    try:
        a, b = (bench.requests(each, protocol, cell.batch) for each in (against, version))

        def rate(requests: Requests) -> float:
            return requests.slice(cell.concurrency, bench.seconds).requests_per_second

        def check() -> None:
            a.check_all(cell.concurrency)
            b.check_all(cell.concurrency)

        check()
        compared = compare(lambda: rate(a), lambda: rate(b), rounds)
        check()
        found |= asdict(compared)
    except WindtunnelError as error:
        invalid = str(error)
    return {
        "model": version.name,
        "version": version.number,
        "against": against.number,
        "server": bench.server(version).name,
        "protocol": protocol,
        "concurrency": cell.concurrency,
        "batch": cell.batch,
        "confidence": CONFIDENCE,
        "rounds": rounds,
        "seconds": bench.seconds,
        **found,
        "invalid": invalid,
    }


def _framework(version: Version) -> str:
    return version.name.rpartition("-")[2]


def _share(values: Sequence[float], of: Sequence[float]) -> float | None:
    """The median of the rounds' ratios."""
    return statistics.median(value / whole for value, whole in zip(values, of, strict=True)) if values and of else None


def _describe(version: Version, protocol: Protocol, loop: str, cell: Cell) -> str:
    return f"{version.name:18} {protocol:4}  {loop:6}  {cell.concurrency:2} clients  batch {cell.batch:2}"
