"""Write output to any destination: a terminal without UTF-8, a closed pipe, a full disk."""

import codecs
import io
import os
import sys

ERRORS = "windtunnel.plain"
"""The error handler that replaces characters that an encoding lacks with similar ASCII characters."""

_LIKE = str.maketrans(
    {
        **dict.fromkeys("╭╮╰╯├┤┬┴┼┌┐└┘┏┓┗┛┡┩╇╞╡╪", "+"),
        **dict.fromkeys("─━╴╶═–—", "-"),
        **dict.fromkeys("│┃╎", "|"),
        **{"…": "...", "→": "->", "≤": "<=", "≥": ">=", "×": "x", "✓": "+", "✗": "x", "↻": "r", "−": "-", "’": "'"},
    }
)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return error.object[error.start : error.end].translate(_LIKE).encode("ascii", "replace").decode(), error.end


codecs.register_error(ERRORS, _plain)


def prepare_output() -> None:
    """Let stdout and stderr write any text: characters that their encoding lacks are replaced with similar ASCII characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def finish_output() -> None:
    """Flush stdout. A closed pipe, as with `| head`, is not an error.

    Raises:
        OSError: the output cannot be written.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)  # Python flushes once more when it exits: let that flush succeed
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        if not isinstance(error, BrokenPipeError):
            raise
