"""What something costs, for tests that see to it that it is little."""

import time
from collections.abc import Callable
from typing import Any

TRIES = 3


def cost(call: Callable[[], Any]) -> float:
    """The processor time of a call in seconds, the least of three: this process may have other threads, and its garbage to collect."""

    def once() -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return min(once() for _ in range(TRIES))
