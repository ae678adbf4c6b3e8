"""The executor's part in a task's log: why the task could not be run at all.

The supervisor of a task can end before the task does anything: its HTTP client cannot be made, its parameters cannot be handed over.
Airflow's LocalExecutor leaves the reason in the scheduler's log, and the task with an empty one.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.executors.local_executor import LocalExecutor
from airflow.executors.workloads import ExecuteTask
from airflow.sdk.log import init_log_file


class TellingExecutor(LocalExecutor):
    """A LocalExecutor that writes into the log of a task, and into the audit log, why it could not be run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._logs: dict[Any, str] = {}  # of the tasks that run, below Airflow's folder of logs

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        self._logs |= {each.key: each.log_path for each in workload_list if isinstance(each, ExecuteTask) and each.log_path}
        super()._process_workloads(workload_list)

    def _read_results(self) -> None:
        """Take what the executor's processes report; LocalExecutor's own forgets the error in it."""
        while not self.result_queue.empty():
            key, state, error = self.result_queue.get()
            log = self._logs.pop(key, None)
            if error is not None and log:
                _write(log, error)
            self.change_state(key, state, error)


def _write(log: str, error: BaseException) -> None:
    """Append a line as tasks write theirs, as JSON."""
    event = f"The task could not be run: {type(error).__name__}: {error}. The scheduler's log has the traceback."
    line = {"timestamp": datetime.now(UTC).isoformat(), "level": "error", "event": event, "logger": "task.executor"}
    with init_log_file(log).open("a") as stream:
        stream.write(json.dumps(line) + "\n")
