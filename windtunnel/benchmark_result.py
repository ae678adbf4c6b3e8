"""The result of a benchmark of served models. `windtunnel bench` and the DAG write it; reports and records read it."""

import statistics
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from windtunnel.errors import WindtunnelError
from windtunnel.spec import first_problem

USUAL_CONCURRENCY = 10  # of the figures in summaries
PROTOCOL_NAMES = {"rest": "REST", "grpc": "gRPC"}


class Part(BaseModel):
    """A part of the result: immutable."""

    model_config = ConfigDict(frozen=True)


class Measured(Part):
    """A version that was measured. In a comparison, the version that is compared with another one."""

    framework: str
    version: int
    server: str


class Row(Part):
    """One measurement: a model over a protocol, with `concurrency` clients and `batch` images per request. Lists have a value per round.

    `p50`, `p99`: latency in seconds. `limit`: the in-process ceiling, images/s at this batch size. `floor`: the no-op baseline,
    requests/s. `offered`: requests/s sent, whether or not they were answered; only if the `loop` is open. `invalid`: why there is no
    figure.
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
        """Whether there is a figure. There is none if the row is invalid, or if the benchmark was stopped before it."""
        return self.invalid is None and bool(self.requests_per_second)

    @property
    def rate(self) -> float:
        """Median of the requests per second."""
        return statistics.median(self.requests_per_second)


class Comparison(Part):
    """The comparison of `version` with `against`, two versions of a model, in `rounds` interleaved pairs of measurements of `seconds` each.

    `ratio` is the rate of `version` divided by that of `against`; `low` and `high` bound its interval at the level `confidence`.
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
    """The result of a benchmark; `partial` if it was stopped before its end."""

    commit: str
    started: str
    partial: bool
    rounds: int
    seconds: float
    machine: dict[str, Any]
    models: dict[str, Measured]
    rows: list[Row]
    comparisons: list[Comparison] = []

    def with_comparisons(self, other: Self) -> Self:
        """Return this result with the comparisons of another one added; `partial` if one of the two is."""
        comparisons = [*self.comparisons, *other.comparisons]
        return self.model_copy(update={"comparisons": comparisons, "partial": self.partial or other.partial})

    @property
    def invalid(self) -> list[Row | Comparison]:
        """The rows and comparisons without a figure, because an answer was wrong or missing."""
        measured: list[Row | Comparison] = [*self.rows, *self.comparisons]
        return [each for each in measured if each.invalid]

    def closed(self, **wanted: int) -> list[Row]:
        """Return the rows of the closed loop with these values, such as `batch=1`."""
        return [row for row in self.rows if row.loop == "closed" and all(getattr(row, name) == value for name, value in wanted.items())]

    @property
    def usual(self) -> list[Row]:
        """The rows for summaries: one image per request, and enough clients to keep a server busy."""
        return self.closed(concurrency=USUAL_CONCURRENCY, batch=1)

    @property
    def by_batch(self) -> list[Row]:
        """The rows of the concurrency with the most batch sizes."""

        def sizes(concurrency: int) -> tuple[int, bool]:
            return len({row.batch for row in self.closed(concurrency=concurrency)}), concurrency == USUAL_CONCURRENCY

        concurrencies = {row.concurrency for row in self.closed()}
        return self.closed(concurrency=max(concurrencies, key=sizes)) if concurrencies else []


def read_benchmark(file: Path) -> Benchmark | None:
    """Read the result of a benchmark; None if the file does not exist.

    Raises:
        WindtunnelError: the file does not contain a valid result.
    """
    try:
        return Benchmark.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise WindtunnelError(f"{file} is not the result of a benchmark: {first_problem(error)}; measure again") from error
