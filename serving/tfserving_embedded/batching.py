"""Micro-batches: requests that arrive while the runtime is busy are computed together as soon as it is free.

Clients that were answered together send their next requests at about the same time. So while fewer requests wait than were in the last
batch, the batcher waits a moment for the others: batches grow with the load, and with them the throughput per core. A single client never
waits.

A request of a model that has proved to be quick is computed at once on the event loop: passing it to a thread, and joining and splitting
batches, would take longer than computing it.

Without batching, each request is a separate call.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

import grpc
import numpy as np

from serving.tfserving_embedded import metrics
from serving.tfserving_embedded.batching_parameters import BatchingParameters
from serving.tfserving_embedded.runtime.model import Model
from serving.tfserving_embedded.serving_error import ServingError

PATIENCE_SECONDS = 0.001  # how long to wait for as many requests as were in the last batch
PROBE_EVERY = 16  # batches, after which one more request is awaited: otherwise a fast runtime would compute them one by one


@dataclass
class _Request:
    """A request or a part of one: its values, its rows (None if it cannot share a batch), and the future for its outputs."""

    inputs: Mapping[str, np.ndarray]
    rows: int | None
    outputs: "asyncio.Future[list[np.ndarray]]"
    time: float


@dataclass
class _Queue:
    """Requests that may share a batch: same model, signature, outputs and types, and same shapes except for the rows."""

    model: Model
    signature_name: str
    outputs: Sequence[str]
    parameters: BatchingParameters
    requests: deque[_Request] = field(default_factory=deque)
    rows: int = 0


class Batcher:
    """Runs models for coroutines of one event loop: on a few threads, and quick models on the loop itself."""

    def __init__(self, parameters: BatchingParameters | None, per_model: bool = False) -> None:
        """Start the threads.

        Args:
            parameters: None to compute every request alone.
            per_model: batch by each model's own parameters, and not at all without them; of `parameters` only the threads are used.
        """
        self._parameters = parameters or BatchingParameters()
        self._batching = parameters is not None
        self._per_model = per_model
        self._free = self._parameters.num_batch_threads
        self._jobs: SimpleQueue[tuple[asyncio.AbstractEventLoop, _Queue, list[_Request]] | None] = SimpleQueue()
        for number in range(self._free):
            threading.Thread(target=self._work, name=f"inference-{number}", daemon=True).start()
        self._queues: dict[object, _Queue] = {}
        self._scheduled = False
        self._batches = 0
        self._expected = 1

    async def run(self, model: Model, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute outputs of a signature, together with other requests if possible; see `Model.run`.

        Raises:
            ServingError: what the runtime reports for this request alone; UNAVAILABLE if too many requests are waiting.
        """
        own = model.batching if self._per_model else self._parameters
        rows = _rows(inputs) if self._batching and own is not None and model.joins(signature_name) else None
        parameters = own or self._parameters
        if rows is not None:
            for _ in inputs:
                metrics.input_batch_size.observe(rows)
            # Before they are split, which changes the shape in the error, or filled up with zeros, which gives small ones the right shape.
            model.check_shapes(signature_name, inputs)
        if self._free == self._parameters.num_batch_threads and model.quick(signature_name, inputs):  # no thread is using the model
            if rows is not None and rows <= parameters.max_batch_size:
                metrics.batch([0.0], rows, 0)
            return _run(model, signature_name, inputs, outputs, rows)
        loop = asyncio.get_running_loop()
        requests = [_Request(part, size, loop.create_future(), loop.time()) for part, size in _parts(inputs, rows, parameters)]
        key = (id(model), signature_name, tuple(outputs), _form(inputs, parameters)) if rows is not None else requests[0].outputs
        queue = self._queues.setdefault(key, _Queue(model, signature_name, outputs, parameters))
        if queue.rows + (rows or 0) > parameters.max_batch_size * parameters.max_enqueued_batches and queue.requests:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full; try again later"
            )
        queue.requests.extend(requests)
        queue.rows += rows or 0
        self._schedule()
        if len(requests) == 1:
            return await requests[0].outputs
        results = await asyncio.gather(*(request.outputs for request in requests))
        for request, arrays in zip(requests, results, strict=True):
            _check_rows(arrays, request.rows)
        return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]

    def close(self) -> None:
        """End the threads."""
        for _ in range(self._parameters.num_batch_threads):
            self._jobs.put(None)

    def _schedule(self) -> None:
        """Dispatch once the loop has read everything that has arrived, not at each request."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Give the queues that have waited longest to free threads; schedule another call for queues that may still fill."""
        self._scheduled = False
        loop = asyncio.get_running_loop()
        for key in list(self._queues):
            queue = self._queues.pop(key)
            while self._free and queue.requests:
                wait = self._wait(queue, loop.time())
                if wait > 0:
                    loop.call_later(wait, self._schedule)
                    break
                batch = self._take(queue, loop.time())
                self._free -= 1
                self._jobs.put((loop, queue, batch))
            if queue.requests:
                self._queues[key] = queue

    def _wait(self, queue: _Queue, now: float) -> float:
        """Return how many seconds a queue may still wait to fill a batch."""
        first = queue.requests[0]
        if first.rows is None or queue.rows >= queue.parameters.batch_size:
            return 0
        patience = PATIENCE_SECONDS if len(queue.requests) < self._expected else 0
        return first.time + max(patience, queue.parameters.batch_timeout_micros / 1e6) - now

    def _take(self, queue: _Queue, now: float) -> list[_Request]:
        """Return the next requests of a queue, up to a full batch."""
        batch = [queue.requests.popleft()]
        rows = batch[0].rows or 0
        while queue.requests and rows + (queue.requests[0].rows or 0) <= queue.parameters.batch_size:
            batch.append(queue.requests.popleft())
            rows += batch[-1].rows or 0
        queue.rows -= rows
        self._batches += 1
        self._expected = len(batch) + (self._batches % PROBE_EVERY == 0)
        if batch[0].rows is not None and rows <= queue.parameters.max_batch_size:
            metrics.batch([now - request.time for request in batch], rows, queue.parameters.padding(rows))
        return batch

    def _work(self) -> None:
        """Compute batches on a thread."""
        while (job := self._jobs.get()) is not None:
            loop, queue, batch = job
            loop.call_soon_threadsafe(self._deliver, batch, _compute(queue, batch))

    def _deliver(self, batch: list[_Request], results: list[list[np.ndarray] | BaseException]) -> None:
        self._free += 1
        self._dispatch()
        for request, outputs in zip(batch, results, strict=True):
            if request.outputs.done():  # the client has gone
                continue
            if isinstance(outputs, BaseException):
                request.outputs.set_exception(outputs)
            else:
                request.outputs.set_result(outputs)


def _rows(inputs: Mapping[str, np.ndarray]) -> int | None:
    """Return the number of rows of all inputs; None if it differs."""
    sizes = {array.shape[0] if array.ndim else None for array in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else None


def _parts(
    inputs: Mapping[str, np.ndarray], rows: int | None, parameters: BatchingParameters
) -> Iterable[tuple[Mapping[str, np.ndarray], int | None]]:
    """Split a request for computation: the whole request, or the parts of a large one, with their rows."""
    size = parameters.batch_size
    if rows is None or rows <= size or not parameters.enable_large_batch_splitting:
        return [(inputs, rows)]
    starts = range(0, rows, size)
    return (({alias: array[start : start + size] for alias, array in inputs.items()}, min(size, rows - start)) for start in starts)


def _form(inputs: Mapping[str, np.ndarray], parameters: BatchingParameters) -> object:
    """Return what requests must have in common to share a batch."""
    if parameters.pad_variable_length_inputs:
        return tuple((alias, array.dtype, array.ndim) for alias, array in sorted(inputs.items()))
    return tuple((alias, array.dtype, array.shape[1:]) for alias, array in sorted(inputs.items()))


def _compute(queue: _Queue, batch: Sequence[_Request]) -> list[list[np.ndarray] | BaseException]:
    """Compute a batch on a thread. If that fails, compute its requests separately, so that none fails because of another."""
    if len(batch) > 1 or (batch[0].rows is not None and queue.parameters.allowed_batch_sizes):
        with contextlib.suppress(Exception):  # one request is at fault, or outputs are not rows: computed alone, each gets its own answer
            return _together(queue, batch)
    return [_alone(queue, request) for request in batch]


def _alone(queue: _Queue, request: _Request) -> list[np.ndarray] | BaseException:
    try:
        return _run(queue.model, queue.signature_name, request.inputs, queue.outputs, request.rows)
    except Exception as error:
        return error


def _run(model: Model, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], rows: int | None) -> list[np.ndarray]:
    """Run a model; only real batches are counted as batches."""
    if rows is not None:
        metrics.batch_runs.inc()
    return model.run(signature_name, inputs, outputs)


def _together(queue: _Queue, batch: Sequence[_Request]) -> list[list[np.ndarray] | BaseException]:
    """Run a batch in one call and split its outputs.

    Raises:
        ServingError: the runtime rejects the batch, or an output does not have a row for each row of the inputs.
    """
    ends = np.cumsum([request.rows for request in batch])
    rows = int(ends[-1])
    padding = queue.parameters.padding(rows)
    inputs = {alias: _joined([request.inputs[alias] for request in batch], padding) for alias in batch[0].inputs}
    outputs = _run(queue.model, queue.signature_name, inputs, queue.outputs, rows)
    _check_rows(outputs, rows + padding)
    starts = [0, *ends[:-1]]
    return [[output[start:end] for output in outputs] for start, end in zip(starts, ends, strict=True)]


def _check_rows(outputs: Sequence[np.ndarray], rows: int | None) -> None:
    """Check that each output has a row for each row of the inputs.

    Raises:
        ServingError: FAILED_PRECONDITION.
    """
    if any(output.ndim == 0 or len(output) != rows for output in outputs):
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, "Batched output tensor's 0th dimension does not equal the batch size")


def _joined(arrays: Sequence[np.ndarray], more: int) -> np.ndarray:
    """Concatenate the rows of arrays, pad shorter ones, and append `more` rows equal to the first."""
    shape = tuple(np.max([array.shape[1:] for array in arrays], axis=0).astype(int))
    fitting = [array if array.shape[1:] == shape else _padded(array, shape) for array in arrays]
    return np.concatenate([*fitting, *[fitting[0][:1]] * more])


def _padded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    padded = np.full((len(array), *shape), b"" if array.dtype == object else 0, array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded
