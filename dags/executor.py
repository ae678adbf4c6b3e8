"""The executor of the platform's scheduler: Airflow's LocalExecutor, prompt when a task ends and quiet while none does.

The scheduler looks for work as often as its setting `scheduler_idle_sleep_time` says, and each look costs some 20 ms of CPU. What is
short enough for the steps of a run to follow each other at once keeps a fifth of a core busy for ever. So it looks that often where
something happens, and else waits for a task to end.
"""

import gc
import importlib
import time
from collections.abc import Sequence
from typing import Any

from dags.untold import TellingExecutor

LINGER_SECONDS = 2.0  # after a task has begun or ended, the next one may be about to
QUIET_SECONDS = 1.0  # between two looks, in addition to the scheduler's own sleep
GLANCE_SECONDS = 0.2  # between two questions whether a task has ended; 20 a second would cost 0.35 % of a core

# What the process of every task imports. Each is a fork of one of the executor's, which are forks of the scheduler: what is here before
# is imported once, and its memory is shared.
USED_BY_TASKS = (
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.execution_time.supervisor",
    "airflow.providers.standard.operators.empty",
    "dags.approval",
    "dags.champions",
    "dags.steps",
)


class QuietExecutor(TellingExecutor):
    """A LocalExecutor that lets the scheduler sleep for as long as nothing happens, and whose tasks begin sooner."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy = time.monotonic()  # when a task last began or ended

    def start(self) -> None:
        """Import what tasks need, and only then fork the processes that run them."""
        for module in USED_BY_TASKS:
            importlib.import_module(module)
        super().start()

    def _spawn_workers_with_gc_freeze(self, spawn_number: int) -> None:
        """Keep from the garbage collector, for good, what is shared with them: it writes into each object, and so copies its memory."""
        super()._spawn_workers_with_gc_freeze(spawn_number)
        gc.freeze()

    def sync(self) -> None:
        """Do what the LocalExecutor does at each of the scheduler's looks; where nothing happens, wait for the end of a task."""
        if not self.result_queue.empty():
            self._busy = time.monotonic()
        super().sync()
        if (now := time.monotonic()) - self._busy > LINGER_SECONDS:
            while self.result_queue.empty() and time.monotonic() - now < QUIET_SECONDS:
                time.sleep(GLANCE_SECONDS)

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        self._busy = time.monotonic()
        super()._process_workloads(workload_list)
