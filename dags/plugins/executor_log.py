"""Write into a task's log why the task could not be run.

The supervisor of a task can fail before the task starts, for example because its HTTP client cannot be created or its parameters cannot
be passed. Airflow's LocalExecutor writes the reason only to the scheduler's log, and the task's log stays empty.
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
        self._logs: dict[Any, str] = {}  # of the running tasks, relative to Airflow's log folder

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        self._logs |= {each.key: each.log_path for each in workload_list if isinstance(each, ExecuteTask) and each.log_path}
        super()._process_workloads(workload_list)

    def _read_results(self) -> None:
        """Process the results of the executor's processes. LocalExecutor's own method drops the error."""
        while not self.result_queue.empty():
            key, state, error = self.result_queue.get()
            log = self._logs.pop(key, None)
            if error is not None and log:
                _write(log, error)
            self.change_state(key, state, error)


def _write(log: str, error: BaseException) -> None:
    """Append a line of JSON to a task's log, in the tasks' format."""
    event = f"The task could not be run: {type(error).__name__}: {error}. The scheduler's log has the traceback."
    line = {"timestamp": datetime.now(UTC).isoformat(), "level": "error", "event": event, "logger": "task.executor"}
    with init_log_file(log).open("a") as stream:
        stream.write(json.dumps(line) + "\n")
