"""Micro-batches: what has queued while the model was busy is computed together. Nobody waits for a batch to fill.

Clips of other versions are in batches of their own. A clip whose client has gone, or whose deadline has passed, is not computed.
"""

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from serving.speech.metrics import Metrics
from serving.speech.model import BATCH, Recognizer
from windtunnel.clips import CLIP_SAMPLES
from windtunnel.errors import WindtunnelError


class BusyError(WindtunnelError):
    """Too many clips wait already."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a version hears in a clip: logits and probabilities, float32 (K), as `Recognizer` gives them."""

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
    """Asks recognizers for coroutines of one loop, on a few threads."""

    def __init__(self, workers: int, limit: int, metrics: Metrics) -> None:
        """Start.

        Args:
            workers: how many batches are computed at the same time.
            limit: how many clips may wait.
            metrics: told the size of each batch, the length of the queue and who has gone.
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
        """What a version hears in a clip, float32 (16000) in -1..1.

        Args:
            recognizer: the version, which is kept until it has answered.
            clip: as `windtunnel.clips.as_clip` gives it.
            deadline: the time of the loop after which nobody waits for the answer.

        Raises:
            BusyError: too many wait already.
            TimeoutError: the deadline passed before the clip's turn.
        """
        if len(self._queue) >= self._limit:
            raise BusyError(f"{len(self._queue)} clips wait already, as many as may: try again later")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(recognizer, clip, loop.create_future(), deadline)
        self._queue.append(waiting)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._look, len(self._queue))
        return await waiting.heard

    def close(self) -> None:
        """End the threads, after what they compute."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _look(self, before: int) -> None:
        """Dispatch once the loop has read all that has arrived, not at each request: a thread is worth waking for several."""
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
        """The next clips of one version, without those that nobody waits for."""
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
                # NumPy would let the loop run between two clips, and wait for it.
                clips = np.frombuffer(b"".join([waiting.clip.data for waiting in batch]), np.float32)
                computed = batch[0].recognizer(clips.reshape(len(batch), CLIP_SAMPLES))
            except Exception as error:
                computed = error
            loop.call_soon_threadsafe(self._deliver, batch, computed)
            del job, batch  # while it waits for more, it holds no version

    def _deliver(self, batch: list[_Waiting], computed: "tuple[np.ndarray, np.ndarray] | Exception") -> None:
        self._free += 1
        self._dispatch()  # first: the thread computes while the answers are sent
        for place, waiting in enumerate(batch):
            if waiting.heard.done():  # the client has gone
                continue
            if isinstance(computed, Exception):
                waiting.heard.set_exception(computed)
            else:
                logits, probabilities = computed
                waiting.heard.set_result(Heard(waiting.recognizer, logits[place], probabilities[place]))
