"""Waiting for what another process does."""

from collections.abc import Callable

from windtunnel.waiting import Found, wait_until

PATIENCE = 300.0
"""Seconds after which what a test waits for will never come, on however busy a machine."""
RUN_PATIENCE = 4 * PATIENCE
"""The same of a whole run."""


def wait_for(condition: Callable[[], Found], seconds: float = PATIENCE, explain: Callable[[], str] = lambda: "") -> Found:
    """Wait until `condition()` is true, and return what it was; fail after so many seconds, with what `explain()` says.

    On a quiet machine it takes a fraction: how long something may take is for a benchmark, and not for a test that may run beside others.
    """
    found = wait_until(condition, seconds, poll=0.1)
    assert found, f"not within {seconds:g} s: {explain()}"
    return found
