"""Run the embedded TensorFlow Serving with one slow version, which `comparison_accuracy` must find.

    python -m benchmarks.model_servers.slowed_tfserving SECONDS FLAGS…

The delay is work, not sleep, for two reasons: a sleeping server answers other clients in the meantime and loses no throughput, and the
timers of its event loop have a resolution of milliseconds, while a whole request takes a fraction of one. The delay is measured in CPU
time, as a slower model would use it, so that other load on the machine delays both versions equally.
"""

import sys
import time
from typing import Any

from serving.tfserving_embedded.__main__ import main
from serving.tfserving_protos import messages_alone

SLOW = 2  # version number


def slow_down(seconds: float) -> None:
    """Make this process's server spend this much more CPU time on each prediction by the slow version."""
    with messages_alone():
        from serving.tfserving_embedded.core import Core
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
