"""The limit of concurrent calls."""

import asyncio
from types import TracebackType

from serving.speech_server.status import CallError, Code

WAITING = 100
"""How many calls may wait for a turn, each with a request of 64 kB. Further calls are rejected at once."""

WAIT_SECONDS = 5.0
"""How long a call waits for a turn before it is rejected. A turn usually comes within a hundredth of that."""


class Turns:
    """A semaphore for which at most `WAITING` calls wait, for at most `WAIT_SECONDS`. Use it as `async with turns:`."""

    def __init__(self, limit: int) -> None:
        self._limit, self._free, self._waiting = limit, asyncio.Semaphore(limit), 0

    async def __aenter__(self) -> None:
        """Wait for a turn.

        Raises:
            CallError: too many calls wait, or the wait was too long.
        """
        if not self._free.locked():
            await self._free.acquire()  # does not wait
            return
        if self._waiting >= WAITING:
            raise CallError(Code.RESOURCE_EXHAUSTED, f"too many calls: {self._limit} run and {WAITING} wait. Try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            found = f"too many calls: {self._limit} run, and none has ended within {WAIT_SECONDS:g} s"
            raise CallError(Code.RESOURCE_EXHAUSTED, f"{found}. Try again later") from None
        finally:
            self._waiting -= 1

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._free.release()
