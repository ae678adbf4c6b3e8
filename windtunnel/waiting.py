"""Wait for a condition by polling."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], seconds: float, poll: float) -> Found:
    """Call `condition` every `poll` seconds until its result is true or `seconds` have passed. Return the last result."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(poll)
    return found
