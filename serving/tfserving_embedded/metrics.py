"""The server's metrics, with the names on TensorFlow Serving's own Prometheus page."""

import asyncio
import functools
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from serving.tfserving_embedded.serving_error import ServingError

PATH = "/monitoring/prometheus/metrics"


def _exponential(first: float, growth: float, count: int) -> list[float]:
    """Return the limits of TensorFlow's `Buckets::Exponential`, with the six digits of its page."""
    return [float(f"{first * growth**power:g}") for power in range(count)]


LATENCY_BUCKETS = _exponential(10, 1.8, 33)  # microseconds, to about 20 minutes: tensorflow_serving/servables/tensorflow/util.cc
# tensorflow_serving/batching/batching_session.cc and batching_util.h
QUEUING_BUCKETS = _exponential(100, 1.2, 52)  # microseconds, to about a second
SIZE_BUCKETS = _exponential(1, 2, 14)  # rows

disable_created_metrics()
registry = CollectorRegistry()
request_count = Counter(":tensorflow:serving:request_count", "The total number of requests.", ["model_name", "status"], registry=registry)
request_latency, runtime_latency = (
    Histogram(
        f":tensorflow:serving:{kind}_latency",
        f"Distribution of wall time (in microseconds) for Tensorflow {what}.",
        ["model_name", "API", where],
        buckets=LATENCY_BUCKETS,
        registry=registry,
    )
    for kind, what, where in (("request", "Serving request", "entrypoint"), ("runtime", "runtime", "runtime"))
)
graph_runs = Counter(
    ":tensorflow:core:graph_runs",
    "The number of graph executions used to collect /tensorflow/core/graph_run_time_usecs",
    registry=registry,
)
graph_run_time = Counter(
    ":tensorflow:core:graph_run_time_usecs", "The total time spent on executing graphs in microseconds.", registry=registry
)
queuing_latency = Histogram(
    ":tensorflow:serving:batching_session:queuing_latency",
    "Distribution of wall time spent (in microseconds) in queuing",
    ["thread_pool_name"],
    buckets=QUEUING_BUCKETS,
    registry=registry,
)
input_batch_size, processed_batch_size = (
    Histogram(
        f":tensorflow:serving:batching_session:{kind}_batch_size",
        f"Tracks the batch size distribution on {where}.",
        buckets=SIZE_BUCKETS,
        registry=registry,
    )
    for kind, where in (("input", "the inputs"), ("processed", "processing"))
)
padding_size = Histogram(
    ":tensorflow:serving:batching_session:padding_size",
    "Tracks the padding size distribution on batches.",
    ["execution_batch_size"],
    buckets=SIZE_BUCKETS,
    registry=registry,
)
batch_runs = Counter(
    ":tensorflow:serving:batching_session:wrapped_run_count", "Total count of run calls on the wrapped session", registry=registry
)
_queuing = queuing_latency.labels("")  # the real server puts the name of its thread pool here, which has none
_padding = functools.cache(padding_size.labels)
_count = functools.cache(request_count.labels)  # the library looks labels up under a lock
_latency = functools.cache(request_latency.labels)
_runtime = functools.cache(runtime_latency.labels)


class request:
    """A context that counts a request with its status, and times it if it was answered, as TensorFlow Serving does."""

    __slots__ = ("_labels", "_start")

    def __init__(self, model: str, api: str, entrypoint: str) -> None:
        """Begin.

        Args:
            model: the model's name; the empty string for an unknown model, because names that clients invent would fill the memory.
            api: `Predict`, `Classify`, … over gRPC; `predict`, `classify`, `regress` over REST.
            entrypoint: `GRPC` or `REST`.
        """
        self._labels = model, api, entrypoint
        self._start = time.perf_counter()

    def __enter__(self) -> None:
        """Do nothing: the clock is running."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Count."""
        _count(self._labels[0], _status(error).name).inc()
        if error is None:
            _latency(*self._labels).observe((time.perf_counter() - self._start) * 1e6)


@contextmanager
def runtime(model: str, api: str) -> Iterator[None]:
    """Time a model's computation for a request, including the wait for it, if it is answered."""
    start = time.perf_counter()
    yield
    _runtime(model, api, "TF1").observe((time.perf_counter() - start) * 1e6)


@contextmanager
def graph_run() -> Iterator[None]:
    """Count and time a successful run of a graph."""
    start = time.perf_counter()
    yield
    graph_runs.inc()
    graph_run_time.inc(int((time.perf_counter() - start) * 1e6))


def batch(waits: Iterable[float], rows: int, padding: int) -> None:
    """Count a batch that is about to be computed.

    Args:
        waits: how long each of its requests has waited, in seconds.
        rows: the rows of all requests.
        padding: the rows added to fill it up.
    """
    for seconds in waits:
        _queuing.observe(seconds * 1e6)
    processed_batch_size.observe(rows + padding)
    _padding(rows + padding).observe(padding)


def total(name: str) -> int:
    """Return a counter's total over all labels.

    Args:
        name: TensorFlow's name of the metric: `/tensorflow/core/graph_runs`.

    Returns:
        The total; 0 if there is no such counter.
    """
    sample = f"{name.replace('/', ':')}_total"
    return int(sum(s.value for metric in registry.collect() for s in metric.samples if s.name == sample))


def _status(error: BaseException | None) -> grpc.StatusCode:
    if error is None:
        return grpc.StatusCode.OK
    if isinstance(error, ServingError):
        return error.code
    return grpc.StatusCode.CANCELLED if isinstance(error, asyncio.CancelledError) else grpc.StatusCode.INTERNAL


def page() -> bytes:
    """Return the page for Prometheus, in its text format.

    The client library appends `_total` to counters' names; TensorFlow Serving does not, and dashboards use its names.
    """
    return re.sub(rb"^((?:# (?:HELP|TYPE) )?[\w:]+)_total\b", rb"\1", generate_latest(registry), flags=re.MULTILINE)
