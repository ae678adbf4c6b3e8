"""Fold the long part of a task's log in Airflow's log view. The command line shows all lines (windtunnel/platform/airflow.py)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

OPENING, CLOSING = "::group::", "::endgroup::"
OF_AIRFLOW = ("Log message source details", "Pre Execute", "Post Execute")
"""The titles of the groups that Airflow itself writes into each log."""

MANY = 20  # lines, which fill a screen


@contextmanager
def folded(title: str) -> Iterator[None]:
    """Print lines that make a group of what is printed in the context. Airflow shows its title, and the rest after a click."""
    print(f"{OPENING}{title}", flush=True)
    try:
        yield
    finally:
        print(CLOSING, flush=True)


def folded_if_long(title: str, lines: int) -> AbstractContextManager[None]:
    """Return `folded` if about so many lines would fill a screen, else a context that does nothing."""
    return folded(title) if lines > MANY else nullcontext()
