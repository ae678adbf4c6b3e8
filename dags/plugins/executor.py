"""The executor of the platform's scheduler: Airflow's LocalExecutor, with fast reaction to the end of tasks and little CPU load when idle.

The scheduler looks for work at the interval of its setting `scheduler_idle_sleep_time`, and each time costs about 20 ms of CPU. An
interval that is short enough for the tasks of a run to follow each other at once would keep a fifth of a core busy all the time.
Therefore this executor lets the scheduler use the short interval only while tasks start and end, and otherwise waits for a task to end.
"""

import gc
import importlib
import time
from collections.abc import Sequence
from typing import Any

from dags.plugins.executor_log import TellingExecutor
from windtunnel.backend import backends
from windtunnel.model import models

LINGER_SECONDS = 2.0  # after the start or end of a task, in which the next one may follow
QUIET_SECONDS = 1.0  # the idle interval, in addition to the scheduler's own sleep
GLANCE_SECONDS = 0.2  # between two checks whether a task has ended; 20 checks per second would cost 0.35 % of a core

# The modules that the process of every task imports. These processes are forks of the executor's processes, which are forks of the
# scheduler: modules imported before the fork are imported once, and their memory is shared.
USED_BY_TASKS = (
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.execution_time.supervisor",
    "airflow.providers.standard.operators.empty",
    "dags.operators.approval",
    "dags.assets",
    "dags.form",
    "dags.lifecycle",
)


class QuietExecutor(TellingExecutor):
    """A LocalExecutor that lets the scheduler sleep while nothing happens, and whose tasks start faster."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy = time.monotonic()  # when a task last started or ended

    def start(self) -> None:
        """Import the modules that tasks need before forking the processes that run them."""
        for module in USED_BY_TASKS:
            importlib.import_module(module)
        models()  # the DAG files and the settings read the declarations
        backends()
        super().start()

    def _spawn_workers_with_gc_freeze(self, spawn_number: int) -> None:
        """Exclude the shared objects from garbage collection for good: the collector writes into each object, which copies its memory."""
        super()._spawn_workers_with_gc_freeze(spawn_number)
        gc.freeze()

    def sync(self) -> None:
        """Do what LocalExecutor does in each loop of the scheduler; while nothing happens, wait for a task to end."""
        if not self.result_queue.empty():
            self._busy = time.monotonic()
        super().sync()
        if (now := time.monotonic()) - self._busy > LINGER_SECONDS:
            while self.result_queue.empty() and time.monotonic() - now < QUIET_SECONDS:
                time.sleep(GLANCE_SECONDS)

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        self._busy = time.monotonic()
        super()._process_workloads(workload_list)
