"""Waiting for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
PATIENCE = 300.0
"""Seconds after which what a test waits for will never come, on however busy a machine."""
RUN_PATIENCE = 4 * PATIENCE
"""The same of a whole run."""


def wait_for(condition: Callable[[], Found], seconds: float = PATIENCE, explain: Callable[[], str] = lambda: "") -> Found:
    """Wait until `condition()` is true, and return what it was; fail after so many seconds, with what `explain()` says.

    On a quiet machine it takes a fraction: how long something may take is for a benchmark, and not for a test that may run beside others.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {explain()}"
        time.sleep(0.1)
    return found
