"""The journal for coroutines. It runs on its own thread, because its disk is slow and must not delay other coroutines."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from serving.speech_server.feedback.journal import Journal, JournalError, Suggestion
from serving.speech_server.metrics import Metrics
from windtunnel.problems import Problem

_log = logging.getLogger(__name__)

Found = list[Suggestion]


class Suggestions:
    """The methods of `Journal` that the services need. Each raises what the journal's raises."""

    def __init__(self, journal: Journal, metrics: Metrics) -> None:
        self._journal, self._metrics, self._unusable = journal, metrics, Problem(_log.error)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def add(self, word: str, pcm: np.ndarray, peer: str) -> Suggestion:
        """Store a suggestion, int16 (N), durably."""
        stored = await self._run(self._journal.add, word, pcm, peer)
        self._metrics.suggestions.labels(word).inc()
        return stored

    async def list(self, peer: str | None, state: str | None) -> Found:
        """Return all suggestions, or those of a peer or in a state."""
        return await self._run(self._journal.list, peer, state)

    async def waiting(self) -> int:
        """Return how many suggestions no run has settled."""
        return len(await self._run(self._journal.waiting)) + len(await self._run(self._journal.list, None, "claimed"))

    async def undo(self, ids: Sequence[int], peer: str) -> Found:
        """Undo suggestions of a peer; returns those that were undone."""
        return await self._run(self._journal.undo, ids, peer)

    async def purge(self) -> int:
        """Remove the WAVs of suggestions rejected long ago; returns how many."""
        return await self._run(self._journal.purge)

    def close(self) -> None:
        """Close the journal after its current operation."""
        self._pool.shutdown()
        self._journal.close()

    async def _run(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, method, *arguments)
        except JournalError as error:
            self._unusable.is_there(str(error))
            raise
        self._unusable.is_over()
        return found
