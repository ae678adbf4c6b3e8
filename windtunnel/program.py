"""How every program of the project begins and ends: typed flags, one-line errors, exit codes."""

import errno
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import typer

from windtunnel.errors import WindtunnelError
from windtunnel.home import user_name
from windtunnel.streams import finish_output, prepare_output

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def run_app(app: typer.Typer) -> None:
    """Run a command line; exit 1 with one line on stderr for an error that a user can mend, 2 for wrong usage."""
    prepare_output()
    try:
        try:
            app()
        finally:
            finish_output()
    except (WindtunnelError, OSError) as error:
        _fail(explain(error) if isinstance(error, OSError) else str(error))
    except UnicodeEncodeError as error:
        if not re.search("[\udc80-\udcff]", error.object):
            raise
        _fail(f"{error.object!a} holds bytes that are not UTF-8. Write it in UTF-8")


def _fail(problem: str) -> NoReturn:
    with suppress(OSError):  # where nobody reads it
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(1)


def run_program(main: Callable[..., Any]) -> None:
    """Run `main` with the flags that its signature names, as `run_app` does."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app)


def explain(error: OSError) -> str:
    """What the operating system refused, in one line, with the next step."""
    what = f"{error.filename or 'the output, or a file'}: {error.strerror or error}"
    if error.errno in _FULL:
        return f"{what}. Free some space, or set WINDTUNNEL_HOME to a folder on another disk"
    if error.errno in _FORBIDDEN:
        return f"{what} for user {user_name(os.geteuid())}. Run this as the owner, or set WINDTUNNEL_HOME to a folder of your own"
    if error.errno == errno.EROFS:
        return f"{what}. Set WINDTUNNEL_HOME to a folder that can be written"
    return f"{what}. Check that path"
