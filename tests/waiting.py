"""Waiting for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_for(condition: Callable[[], Found], seconds: float = 90, explain: Callable[[], str] = lambda: "") -> Found:
    """Wait until `condition()` is true, and return what it was; fail after so many seconds, with what `explain()` says."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {explain()}"
        time.sleep(0.1)
    return found
