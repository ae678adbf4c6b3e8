"""Problems that are met again and again: each is said once."""

from collections.abc import Callable
from typing import Any


class Problem:
    """Something that goes wrong or does not, each time it is tried. It is said when it is new, or another than before."""

    def __init__(self, say: Callable[..., None]) -> None:
        """Say nothing yet; `say` takes the text, and what `is_there` is given besides."""
        self._say, self._said = say, ""

    def is_there(self, what: str, **details: Any) -> None:
        """It has gone wrong."""
        if what != self._said:
            self._say(what, **details)
        self._said = what

    def is_over(self) -> None:
        """It has gone well."""
        self._said = ""
