"""The journal for coroutines: on a thread of its own, for its disk is slow, and whoever waits for it must not keep others waiting."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from serving.speech.journal import Journal, JournalError, Suggestion
from windtunnel.problems import Problem

_log = logging.getLogger(__name__)

Found = list[Suggestion]


class Suggestions:
    """The methods of `Journal` that the services need; each raises what that does."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._unusable = journal, Problem(_log.error)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def add(self, word: str, pcm: np.ndarray, peer: str) -> Suggestion:
        """Store a suggestion, int16 (N), for good."""
        return await self._run(self._journal.add, word, pcm, peer)

    async def list(self, peer: str | None, state: str | None) -> Found:
        """All suggestions, or those of a peer, in a state."""
        return await self._run(self._journal.list, peer, state)

    async def waiting(self) -> int:
        """How many no run has settled."""
        return len(await self._run(self._journal.waiting)) + len(await self._run(self._journal.list, None, "claimed"))

    async def undo(self, ids: Sequence[int], peer: str) -> Found:
        """Take suggestions of a peer's back; returns those that were."""
        return await self._run(self._journal.undo, ids, peer)

    async def purge(self) -> int:
        """Remove the WAVs of what was rejected long ago; returns how many."""
        return await self._run(self._journal.purge)

    def close(self) -> None:
        """Close the journal, after what it has begun."""
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
