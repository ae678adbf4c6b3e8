"""Problems that are met again and again: each is in the log once."""

import logging


class Problem:
    """Something that goes wrong or does not, each time it is tried. It is logged when it is new, or another than before."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._said = log, ""

    def is_there(self, what: str, unexpected: Exception | None = None) -> None:
        """It has gone wrong; the log shows where something unexpected did."""
        if what != self._said:
            self._log.error("%s", what, exc_info=unexpected)
        self._said = what

    def is_over(self) -> None:
        """It has gone well."""
        self._said = ""
