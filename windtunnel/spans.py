"""Split a run's time into training, measuring and orchestration, which is the rest.

Each program that trains or measures records its time in the run's directory. Two of them never run at once, because they share a pool
of one slot.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from windtunnel.errors import WindtunnelError
from windtunnel.run import Run
from windtunnel.spec import first_problem

Activity = Literal["training", "measuring"]
ORCHESTRATION = "orchestration"


class Span(BaseModel):
    """The time of one program: `started` and `ended` in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    activity: Activity
    started: float
    ended: float


@contextmanager
def noted(run: Run, activity: Activity) -> Iterator[None]:
    """Record the time of this program when the body ends or fails, from the start of the process, so that imports count.

    A program that is killed by SIGKILL records nothing; its time counts as orchestration.
    """
    try:
        yield
    finally:
        now = time.time()
        span = Span(activity=activity, started=now - _age_seconds(), ended=now)
        with run.spans.open("a") as file:
            file.write(f"{span.model_dump_json()}\n")


def split(run: Run, started: float, ended: float) -> dict[str, Any] | None:
    """Split the time of a run from `started` to `ended` (seconds since 1970) by activity; None if no program has recorded its time.

    `seconds` is the whole time; `parts` has `seconds` and `percent` of each activity and of orchestration. Time before `started` does
    not count: after its tasks are cleared in Airflow, a run has a new start.

    Raises:
        WindtunnelError: the recorded times cannot be read.
    """
    try:
        spans = [Span.model_validate_json(line) for line in run.spans.read_text().splitlines()]
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise WindtunnelError(f"{run.spans} has a line that is not a span: {first_problem(error)}; remove that line") from error
    seconds = ended - started
    taken = ((span.activity, max(0.0, min(span.ended, ended) - max(span.started, started))) for span in spans)
    parts = {name: {"seconds": part, "percent": 100 * part / seconds} for name, part in divide(seconds, taken).items()}
    return {"seconds": seconds, "parts": parts}


def tell(split: dict[str, Any] | None) -> str:
    """Format the result of `split` as a line of text; empty if it is None."""
    if split is None:
        return ""
    parts = [f"{name} {part['seconds']:,.0f} s ({part['percent']:.0f} %)" for name, part in split["parts"].items()]
    return f"The run took {split['seconds']:,.0f} s: {', '.join(parts)}.\n"


def divide(seconds: float, taken: Iterable[tuple[Activity, float]]) -> dict[str, float]:
    """Divide the `seconds` of a run by activity: the sum of `taken` for each, and the rest as orchestration."""
    parts: dict[str, float] = dict.fromkeys(get_args(Activity), 0.0)
    for activity, each in taken:
        parts[activity] += each
    return {**parts, ORCHESTRATION: seconds - sum(parts.values())}


def _age_seconds() -> float:
    """Return the seconds since this process started. psutil rounds the boot time to a second; the difference cancels the rounding out."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - (psutil.Process().create_time() - psutil.boot_time())
