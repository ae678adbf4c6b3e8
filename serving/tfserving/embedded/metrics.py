"""What the server counts and times, under the names that TensorFlow Serving's own Prometheus page has."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from serving.tfserving.embedded.errors import ServingError

PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = "text/plain"
# Microseconds, 10 to about 20 minutes: the buckets and six digits of tensorflow_serving/servables/tensorflow/util.cc.
LATENCY_BUCKETS = [float(f"{10 * 1.8**power:g}") for power in range(33)]

disable_created_metrics()
registry = CollectorRegistry()
requests = Counter(":tensorflow:serving:request_count", "The total number of requests.", ["model_name", "status"], registry=registry)
request_latency = Histogram(
    ":tensorflow:serving:request_latency",
    "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
    ["model_name", "API", "entrypoint"],
    buckets=LATENCY_BUCKETS,
    registry=registry,
)
runtime_latency = Histogram(
    ":tensorflow:serving:runtime_latency",
    "Distribution of wall time (in microseconds) for Tensorflow runtime.",
    ["model_name", "API", "runtime"],
    buckets=LATENCY_BUCKETS,
    registry=registry,
)


@contextmanager
def request(model: str, api: str, entrypoint: str) -> Iterator[None]:
    """Count one request with its status, and time it where it was answered, as TensorFlow Serving does.

    Args:
        model: the model's name; of a model the server does not have, the empty string: names that clients make up would fill the memory.
        api: `Predict`, `Classify`, … over gRPC; `predict`, `classify`, `regress` over REST.
        entrypoint: `GRPC` or `REST`.
    """
    start = time.perf_counter()
    status = grpc.StatusCode.INTERNAL
    try:
        yield
        status = grpc.StatusCode.OK
        request_latency.labels(model, api, entrypoint).observe((time.perf_counter() - start) * 1e6)
    except ServingError as error:
        status = error.code
        raise
    finally:
        requests.labels(model, status.name).inc()


def page() -> bytes:
    """The page for Prometheus, in its text format.

    The client library ends a counter's name in `_total`; TensorFlow Serving does not, and dashboards ask for its names.
    """
    return re.sub(rb"^((?:# (?:HELP|TYPE) )?\S*?request_count)_total", rb"\1", generate_latest(registry), flags=re.MULTILINE)
