"""Report a recurring problem once."""

from collections.abc import Callable
from typing import Any


class Problem:
    """The problem of an operation that is repeated. It is reported when it first occurs and when its text changes."""

    def __init__(self, say: Callable[..., None]) -> None:
        """Start without a problem. `say` is called with the text and the keyword arguments of `is_there`."""
        self._say, self._said = say, ""

    def is_there(self, what: str, **details: Any) -> None:
        """Report that the operation has failed, unless that was the last report."""
        if what != self._said:
            self._say(what, **details)
        self._said = what

    def is_over(self) -> None:
        """Note that the operation has succeeded."""
        self._said = ""
