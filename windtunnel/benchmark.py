"""The result of a benchmark of served models, as `windtunnel bench` and the DAG's `benchmark` write it: what reports and records read."""

import statistics
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from windtunnel.errors import WindtunnelError
from windtunnel.spec import first_problem

USUAL_CONCURRENCY = 10  # of the figures that stand for all
PROTOCOL_NAMES = {"rest": "REST", "grpc": "gRPC"}


class Part(BaseModel):
    """A part of the result: immutable."""

    model_config = ConfigDict(frozen=True)


class Row(Part):
    """One cell: a model over a protocol, by so many clients, with so many images a request. A list has a number a round.

    `p50`, `p99`: seconds. `limit`: images/s of the same artefact in process, at this batch. `floor`: requests/s of the same server stack
    without a model. `offered`: requests/s that were sent, whatever came back; only where the `loop` is open. `invalid` says why there
    is no figure.
    """

    model: str
    version: int
    framework: str
    server: str
    protocol: Literal["rest", "grpc"]
    loop: Literal["closed", "open"]
    concurrency: int
    batch: int
    offered: float | None = None
    requests_per_second: list[float] = []
    p50: list[float] = []
    p99: list[float] = []
    limit: list[float] = []
    floor: list[float] = []
    share_of_limit: float | None = None
    share_of_floor: float | None = None
    invalid: str | None = None

    @property
    def measured(self) -> bool:
        """Whether there is a figure: not where it is invalid, nor where the benchmark was stopped before."""
        return self.invalid is None and bool(self.requests_per_second)

    @property
    def rate(self) -> float:
        """Median of the requests a second."""
        return statistics.median(self.requests_per_second)


class Comparison(Part):
    """Version B of a model against version A, in `rounds` pairs of slices of so many `seconds`.

    `ratio` is B's rate by A's, `low` to `high` its interval at `confidence`.
    """

    model: str
    version: int
    against: int
    server: str
    protocol: Literal["rest", "grpc"]
    concurrency: int
    batch: int
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    verdict: str | None = None
    rounds: int | None = None
    seconds: float | None = None
    invalid: str | None = None


class Benchmark(Part):
    """A whole benchmark; `partial` where it was stopped before its end."""

    commit: str
    started: str
    partial: bool
    rounds: int
    seconds: float
    machine: dict[str, Any]
    rows: list[Row]
    comparisons: list[Comparison] = []

    def closed(self, **wanted: int) -> list[Row]:
        """The rows of the closed loop that have these values, such as `batch=1`."""
        return [row for row in self.rows if row.loop == "closed" and all(getattr(row, name) == value for name, value in wanted.items())]

    @property
    def usual(self) -> list[Row]:
        """The rows that stand for all: one image a request, and clients enough to keep a server busy."""
        return self.closed(concurrency=USUAL_CONCURRENCY, batch=1)

    @property
    def by_batch(self) -> list[Row]:
        """The rows of the concurrency that was measured with the most batch sizes."""

        def sizes(concurrency: int) -> tuple[int, bool]:
            return len({row.batch for row in self.closed(concurrency=concurrency)}), concurrency == USUAL_CONCURRENCY

        concurrencies = {row.concurrency for row in self.closed()}
        return self.closed(concurrency=max(concurrencies, key=sizes)) if concurrencies else []


def read_benchmark(file: Path) -> Benchmark | None:
    """Read a result; None where nothing was measured.

    Raises:
        WindtunnelError: the file does not hold one.
    """
    try:
        return Benchmark.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise WindtunnelError(f"{file} is not the result of a benchmark: {first_problem(error)}; measure again") from error
