"""The embedded TensorFlow Serving, one version of which is slow: `python -m serving.slowed SECONDS FLAGS…`. For serving.judging.

The delay is work, not sleep: asked for by several clients at once, a server that sleeps answers the others meanwhile and loses no
rate, and the timers of its event loop count milliseconds, where a whole request takes a fraction of one. It is counted in processor
time, as what a slower model takes, so that whoever disturbs the machine delays both versions alike.
"""

import sys
import time
from typing import Any

from serving.tfserving.embedded.__main__ import main
from serving.tfserving.protos import messages_alone

SLOW = 2  # the version


def slow_down(seconds: float) -> None:
    """Have this process's server spend so much more time on each prediction by the slow version."""
    with messages_alone():
        from serving.tfserving.embedded.core import Core
    predict = Core.predict

    async def predict_late(self: Core, name: str, version: int | None, *rest: Any) -> Any:
        if version == SLOW:
            end = time.thread_time() + seconds
            while time.thread_time() < end:
                pass
        return await predict(self, name, version, *rest)

    Core.predict = predict_late  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    slow_down(float(sys.argv.pop(1)))
    main()
