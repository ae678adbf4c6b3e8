"""TensorFlow Serving's batching parameters (servables/tensorflow/session_bundle_config.proto, batching/README.md)."""

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are batched.

    Attributes:
        max_batch_size: maximum rows of a batch; a larger request is a batch of its own, unless it is split.
        batch_timeout_micros: how long a request waits for its batch to fill; with 0, `batching.PATIENCE_SECONDS` under load.
        max_enqueued_batches: how many full batches may wait; further ones are rejected as UNAVAILABLE.
        num_batch_threads: how many batches are computed at the same time.
        allowed_batch_sizes: if given, a batch is padded to the next of these sizes.
        pad_variable_length_inputs: pad inputs of different lengths with zeros, instead of computing them separately.
        enable_large_batch_splitting: compute large requests in several batches.
        max_execution_batch_size: rows that are computed at a time if requests are split; `max_batch_size` if None.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    @property
    def batch_size(self) -> int:
        """Maximum rows of a batch that is computed."""
        return (self.enable_large_batch_splitting and self.max_execution_batch_size) or self.max_batch_size

    def padding(self, rows: int) -> int:
        """Return the number of padding rows for a batch of this size."""
        return next((size for size in sorted(self.allowed_batch_sizes) if size >= rows), rows) - rows
