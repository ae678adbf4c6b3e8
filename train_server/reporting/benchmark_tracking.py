"""Record the benchmark results of versions: in MLflow, with the run of the version, and in TensorBoard, next to its training.

It is idempotent: recording the same result again changes nothing.
"""

import shutil
import statistics
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from windtunnel.benchmark_result import Benchmark, Row, read_benchmark
from windtunnel.errors import WindtunnelError
from windtunnel.eventlog import EventLog
from windtunnel.files import sha256
from windtunnel.run import Run

EVENTS = "events.out.tfevents.*"


def figures(row: Row) -> dict[str, float]:
    """Return the medians of a row's rounds, latencies in milliseconds; empty if the row was not measured."""
    if not row.measured:
        return {}
    found = {"requests_per_second": row.rate, "p50_ms": 1000 * statistics.median(row.p50), "p99_ms": 1000 * statistics.median(row.p99)}
    shares = {"share_of_limit": row.share_of_limit, "share_of_floor": row.share_of_floor}
    return found | {name: share for name, share in shares.items() if share is not None}


def name_of(row: Row) -> str:
    """Return a row's name in MLflow, such as `serving_rest_c10_b1`, or `serving_rest_open_c10_b1` for an open loop."""
    return "_".join(["serving", row.protocol, *(["open"] if row.loop == "open" else []), f"c{row.concurrency}", f"b{row.batch}"])


def metrics_and_tags(rows: list[Row], when: datetime) -> tuple[list[Metric], list[RunTag]]:
    """Return what to log in MLflow: a metric for each figure, and a tag with the reason for each invalid row.

    The same benchmark gives the same metrics with the same timestamps, which MLflow stores once.
    """
    milliseconds = int(when.timestamp() * 1000)
    metrics = [Metric(f"{name_of(row)}_{name}", value, milliseconds, 0) for row in rows for name, value in figures(row).items()]
    return metrics, [RunTag(f"{name_of(row)}_invalid", row.invalid) for row in rows if row.invalid]


def scalars(benchmark: Benchmark, rows: list[Row]) -> Iterator[tuple[str, float, int]]:
    """Yield TensorBoard scalars: tag, value and step (the concurrency); also the final requests per second of the usual rows."""
    for row in sorted(rows, key=lambda row: row.concurrency):
        if row.loop == "closed":
            for name, value in figures(row).items():
                yield f"serving_{row.protocol}_b{row.batch}/{name}", value, row.concurrency
        if row in benchmark.usual and row.measured:
            yield f"final/{row.protocol}_requests_per_second", row.rate, 0


def write_events(benchmark: Benchmark, rows: list[Row], logs: Path, digest: str) -> None:
    """Write the event file of a benchmark into a framework's logs, and remove those of earlier benchmarks.

    The start of the result's SHA-256, `digest`, is in the file's name. An existing file of the same result is kept: TensorBoard reads each
    file once and would show the points of both.
    """
    suffix = f".serving-{digest[:12]}"
    logs.mkdir(parents=True, exist_ok=True)
    if any(logs.glob(EVENTS + suffix)):
        return
    for earlier in logs.glob(f"{EVENTS}.serving-*"):
        earlier.unlink()
    when = datetime.fromisoformat(benchmark.started).timestamp()
    with tempfile.TemporaryDirectory() as place:
        log = EventLog(Path(place))
        for tag, value, step in scalars(benchmark, rows):
            log.add_scalar(tag, value, step, when)
        log.close()
        written = next(Path(place).iterdir())
        shutil.move(written, logs / f"{written.name}{suffix}")


def record(run: Run, mlflow: MlflowClient, logs: Path) -> Iterator[str]:
    """Record a run's benchmark, if it is complete, in `mlflow` and in TensorBoard's `logs`; yield a line for each framework.

    Raises:
        WindtunnelError: a measured version was not trained in this run, or the result cannot be read.
    """
    benchmark = read_benchmark(run.benchmark)
    if benchmark is None or benchmark.partial:
        return
    for framework in run.lineage().frameworks:
        rows = [row for row in benchmark.rows if row.framework == framework]
        if not rows:
            continue
        if not run.tracked(framework).exists():
            raise WindtunnelError(
                f"{run.tracked(framework)} is missing: {framework} has not been trained in this run. Run its `train` task"
            )
        holder = run.tracked(framework).read_text()
        metrics, tags = metrics_and_tags(rows, datetime.fromisoformat(benchmark.started))
        for name in mlflow.get_run(holder).data.tags:
            if name.startswith("serving_") and name not in {tag.key for tag in tags}:
                mlflow.delete_tag(holder, name)  # left by an earlier benchmark
        mlflow.log_batch(holder, metrics=metrics, tags=tags)
        write_events(benchmark, rows, logs / run.name / framework, sha256(run.benchmark))
        yield f"{framework}: {len(metrics)} metrics recorded, {len(tags)} invalid rows"
