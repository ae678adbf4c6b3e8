"""The server's Prometheus metrics."""

import functools
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
BATCH_BUCKETS = (1, 2, 4, 8, 12, 16)


class Metrics:
    """The metrics of one server; `registry` contains them and those of the process, such as its memory."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        requests = Counter("speech_requests", "Answered calls.", ["method", "code"], registry=self.registry)
        seconds = Histogram(
            "speech_request_seconds", "Time from a call to its answer.", ["method"], buckets=LATENCY_BUCKETS, registry=self.registry
        )
        # Children are created once, because the library looks them up under a lock.
        self.requests: Callable[[str, str], Counter] = functools.cache(requests.labels)
        self.seconds: Callable[[str], Histogram] = functools.cache(seconds.labels)
        self.running = Gauge("speech_requests_running", "Calls without an answer yet.", registry=self.registry)
        self.queue = Gauge("speech_queue_clips", "Clips that wait for the model.", registry=self.registry)
        self.batches = Histogram("speech_batch_clips", "Clips computed together.", buckets=BATCH_BUCKETS, registry=self.registry)
        self.expired = Counter("speech_expired_clips", "Clips skipped because their client had gone.", registry=self.registry)
        self.version = Gauge("speech_model_version", "The version that answers; -1 if there is none.", registry=self.registry)
        self.refused = Gauge("speech_refused_versions", "Versions that should be loaded but were rejected.", registry=self.registry)
        self.suggestions = Counter("speech_suggestions", "Suggestions accepted.", ["word"], registry=self.registry)
        self.unkept = Counter("speech_inference_audio_unkept", "Clips not kept because the disk was full or slow.", registry=self.registry)
