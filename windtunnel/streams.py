"""Output that arrives whatever it goes to: a terminal without UTF-8, a pipe that was closed, a full disk."""

import codecs
import io
import os
import sys

ERRORS = "windtunnel.plain"
"""How a stream writes what its encoding lacks: as the ASCII character that is most like it."""

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
    """Let standard output and error write any text, with a likeness of what their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def finish_output() -> None:
    """Write out what is left of standard output. That nobody reads it any more, as behind `| head`, is no error.

    Raises:
        OSError: it cannot be written.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)  # Python flushes once more at its end, and finds a place for what is left
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        if not isinstance(error, BrokenPipeError):
            raise
