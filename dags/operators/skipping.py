"""Skip a task, and show the reason on its page."""

from collections.abc import Callable
from typing import Any, NoReturn

from airflow.sdk.exceptions import AirflowSkipException


def skip(ti: Any, reason: str) -> NoReturn:
    """Skip the running task. The reason is written to its log and to the XCom `skipped`, which its page shows under Storage."""
    ti.xcom_push("skipped", reason)
    raise AirflowSkipException(reason)


def only_if(param: str) -> Callable[[Any], None]:
    """Return a `pre_execute` that skips its task if this parameter of the run is off."""

    def check(context: Any) -> None:
        if not context["params"][param]:
            skip(context["ti"], f"the parameter {param} is off")

    return check
