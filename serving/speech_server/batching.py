"""Micro-batches: clips that were queued while the model was busy are computed together. The batcher never waits for a batch to fill.

Clips for other versions go into separate batches. A clip is skipped if its client has gone or its deadline has passed.
"""

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from serving.speech_server.metrics import Metrics
from serving.speech_server.model import BATCH, Recognizer
from windtunnel.data.clips import CLIP_SAMPLES
from windtunnel.errors import WindtunnelError


class BusyError(WindtunnelError):
    """Too many clips are waiting."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A version's answer for a clip: logits and probabilities, float32 (K), as `Recognizer` gives them."""

    recognizer: Recognizer
    logits: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    recognizer: Recognizer
    clip: np.ndarray
    heard: "asyncio.Future[Heard]"
    deadline: float | None


class Batcher:
    """Runs recognizers on a few threads, for coroutines of one event loop."""

    def __init__(self, workers: int, limit: int, metrics: Metrics) -> None:
        """Start the threads.

        Args:
            workers: number of batches computed at the same time.
            limit: number of clips that may wait.
            metrics: receives the size of each batch, the length of the queue, and the number of skipped clips.
        """
        self._jobs: SimpleQueue[tuple[asyncio.AbstractEventLoop, list[_Waiting]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"recognizer-{number}", daemon=True) for number in range(workers)]
        for thread in self._threads:
            thread.start()
        self._free = workers
        self._limit = limit
        self._metrics = metrics
        self._queue: deque[_Waiting] = deque()
        self._scheduled = False
        metrics.queue.set_function(lambda: len(self._queue))

    async def hear(self, recognizer: Recognizer, clip: np.ndarray, deadline: float | None = None) -> Heard:
        """Return a version's answer for a clip, float32 (16000) in -1..1.

        Args:
            recognizer: the version; it stays loaded until it has answered.
            clip: as `windtunnel.data.clips.as_clip` returns it.
            deadline: the time, by the loop's clock, after which the answer is no longer needed.

        Raises:
            BusyError: too many clips are waiting.
            TimeoutError: the deadline passed before the clip's turn.
        """
        if len(self._queue) >= self._limit:
            raise BusyError(f"too many clips are waiting: {len(self._queue)}. Try again later")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(recognizer, clip, loop.create_future(), deadline)
        self._queue.append(waiting)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._look, len(self._queue))
        return await waiting.heard

    def close(self) -> None:
        """End the threads after their current batches."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _look(self, before: int) -> None:
        """Dispatch once the loop has read everything that has arrived, not at each request: waking a thread pays off for several."""
        if before < len(self._queue) < BATCH:
            asyncio.get_running_loop().call_soon(self._look, len(self._queue))
        else:
            self._scheduled = False
            self._dispatch()

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while self._free and (batch := self._take(loop.time())):
            self._free -= 1
            self._metrics.batches.observe(len(batch))
            self._jobs.put((loop, batch))

    def _take(self, now: float) -> list[_Waiting]:
        """Return the next clips of one version, without those whose answer is no longer needed."""
        batch: list[_Waiting] = []
        while self._queue and len(batch) < BATCH and (not batch or self._queue[0].recognizer is batch[0].recognizer):
            first = self._queue.popleft()
            if first.deadline is not None and first.deadline <= now and not first.heard.done():
                first.heard.set_exception(TimeoutError("the deadline passed before the clip's turn"))
            if first.heard.done():
                self._metrics.expired.inc()
            else:
                batch.append(first)
        return batch

    def _work(self) -> None:
        """Compute batches on a thread."""
        while (job := self._jobs.get()) is not None:
            loop, batch = job
            computed: tuple[np.ndarray, np.ndarray] | Exception
            try:
                # NumPy would release the GIL between two clips, and then wait for the event loop.
                clips = np.frombuffer(b"".join([waiting.clip.data for waiting in batch]), np.float32)
                computed = batch[0].recognizer(clips.reshape(len(batch), CLIP_SAMPLES))
            except Exception as error:
                computed = error
            loop.call_soon_threadsafe(self._deliver, batch, computed)
            del job, batch  # while waiting for more, the thread must not keep a version loaded

    def _deliver(self, batch: list[_Waiting], computed: "tuple[np.ndarray, np.ndarray] | Exception") -> None:
        self._free += 1
        self._dispatch()  # first, so that the thread computes while the answers are sent
        for place, waiting in enumerate(batch):
            if waiting.heard.done():  # the client has gone
                continue
            if isinstance(computed, Exception):
                waiting.heard.set_exception(computed)
            else:
                logits, probabilities = computed
                waiting.heard.set_result(Heard(waiting.recognizer, logits[place], probabilities[place]))
