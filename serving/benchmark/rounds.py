"""The rounds of a benchmark, each of which measures everything once, and the rows of the result."""

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from serving.backends.base import Protocol
from serving.benchmark.references import References
from serving.benchmark.subjects import Subject
from serving.load.generators import Figures
from windtunnel.benchmark_result import Row
from windtunnel.errors import WindtunnelError

OPEN_SHARE = 0.5
OPEN_MOST = 500.0  # requests per second; the most that the generator sends on time next to a server on two cores


class Cell(NamedTuple):
    """The load on a server: the number of concurrent clients, and of images per request."""

    concurrency: int
    batch: int


@dataclass(frozen=True)
class Case:
    """One way to measure a version: a row of the result."""

    subject: Subject
    protocol: Protocol
    loop: Literal["closed", "open"]
    cell: Cell

    def __str__(self) -> str:
        name, (clients, batch) = self.subject.version.name, self.cell
        return f"{name:18} {self.protocol:4}  {self.loop:6}  {clients:2} clients  batch {batch:2}"


@dataclass(frozen=True)
class Measurement:
    """A case's figures in a round, with that round's ceiling and baseline if they were measured."""

    figures: Figures
    ceiling: float | None
    baseline: float | None


class Rounds:
    """Measures cases, each once per round. A case with a wrong answer is invalid: it has no figure and is not measured again."""

    def __init__(self, cases: Iterable[Case], with_baseline: Sequence[Cell], seconds: float, say: Callable[[str], None]) -> None:
        """Initialise without measuring.

        Args:
            cases: in the order of measurement; those that share a baseline are adjacent, and the closed loop precedes the open one.
            with_baseline: the cells whose no-op baseline is measured.
            seconds: length of each measurement.
            say: called with each line of progress.
        """
        self._measurements: dict[Case, list[Measurement]] = {case: [] for case in cases}
        self._offered: dict[Case, float] = {}
        self._invalid: dict[Case, str] = {}
        self._with_baseline = with_baseline
        self._seconds = seconds
        self._say = say

    def run(self, references: References, name: str) -> None:
        """Measure every valid case once: first the ceilings, then for each server every way to measure it, with its baseline."""
        valid = [case for case in self._measurements if case not in self._invalid]
        ceilings = {key: references.ceiling(*key) for key in dict.fromkeys((case.subject, case.cell.batch) for case in valid)}
        for (loop, cell, protocol, _), group in itertools.groupby(
            valid, lambda case: (case.loop, case.cell, case.protocol, case.subject.server)
        ):
            found = {case: figures for case in group if (figures := self._figures(case, name))}
            if not found:
                continue
            baseline = None
            if loop == "closed" and cell in self._with_baseline:
                baseline = references.baseline(next(iter(found)).subject, protocol, *cell)
            for case, figures in found.items():
                ceiling = ceilings[case.subject, cell.batch] if loop == "closed" else None
                self._measurements[case].append(Measurement(figures, ceiling, baseline))

    def rows(self) -> list[Row]:
        """Return the results of the rounds so far, a row per case."""
        return [
            _row(case, measurements, self._offered.get(case), self._invalid.get(case)) for case, measurements in self._measurements.items()
        ]

    def _figures(self, case: Case, name: str) -> Figures | None:
        """Measure once; return None if the case becomes invalid."""
        try:
            figures = self._ask(case)
        except WindtunnelError as error:
            self._invalid[case] = str(error)
            self._say(f"{name}  {case}  {error}")
            return None
        self._say(f"{name}  {case}  {figures.requests_per_second:,.0f} requests/s")
        return figures

    def _ask(self, case: Case) -> Figures:
        requests = case.subject.requests(case.protocol, case.cell.batch)
        if case.loop == "closed":
            return requests.closed(case.cell.concurrency, self._seconds, checked=bool(self._measurements[case]))
        if case not in self._offered:
            self._offered[case] = self._rate_to_offer(case)
        return requests.open(self._offered[case], self._seconds)

    def _rate_to_offer(self, case: Case) -> float:
        """Return half of the same version's rate in the preceding closed loop."""
        closed = replace(case, loop="closed")
        if closed in self._invalid:
            raise WindtunnelError(f"no rate for the open loop: its closed loop, whose rate it halves, failed: {self._invalid[closed]}")
        rate = self._measurements[closed][-1].figures.requests_per_second
        return float(max(1, round(min(OPEN_MOST, OPEN_SHARE * rate))))


def _row(case: Case, measurements: Sequence[Measurement], offered: float | None, invalid: str | None) -> Row:
    """Return the row of a case; an invalid one has no figure."""
    counted = [] if invalid else measurements
    rates = [each.figures.requests_per_second for each in counted]
    ceilings, baselines = _complete(each.ceiling for each in counted), _complete(each.baseline for each in counted)
    return Row(
        model=case.subject.version.name,
        version=case.subject.version.number,
        framework=case.subject.framework.name,
        server=case.subject.server.name,
        protocol=case.protocol,
        loop=case.loop,
        concurrency=case.cell.concurrency,
        batch=case.cell.batch,
        offered=offered,
        requests_per_second=rates,
        p50=[each.figures.p50 for each in counted],
        p99=[each.figures.p99 for each in counted],
        limit=ceilings,
        floor=baselines,
        share_of_limit=_share([rate * case.cell.batch for rate in rates], ceilings),
        share_of_floor=_share(rates, baselines),
        invalid=invalid,
    )


def _complete(values: Iterable[float | None]) -> list[float]:
    """Return the values of all rounds, or nothing if one is missing."""
    found = list(values)
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else []


def _share(values: Sequence[float], of: Sequence[float]) -> float | None:
    """Return the median of the rounds' ratios; None if there are none."""
    return statistics.median(value / whole for value, whole in zip(values, of, strict=True)) if of else None
