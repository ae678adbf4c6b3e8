"""Run the project's programs: typed flags, one-line errors, exit codes."""

import errno
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import typer

from windtunnel.errors import WindtunnelError
from windtunnel.platform.home import user_name
from windtunnel.platform.streams import finish_output, prepare_output

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def run_app(app: typer.Typer) -> None:
    """Run a command line. Exit 1 with one line on stderr after an error that the user can fix, 2 after wrong usage."""
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
        _fail(f"{error.object!a} contains bytes that are not UTF-8. Encode it as UTF-8")


def _fail(problem: str) -> NoReturn:
    with suppress(OSError):  # stderr is closed
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(1)


def run_program(main: Callable[..., Any]) -> None:
    """Run `main` as a command line, with the flags that its signature defines. See `run_app`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app)


def explain(error: OSError) -> str:
    """Describe an error of the operating system in one line, with the next step."""
    what = f"{error.filename or 'the output, or a file'}: {error.strerror or error}"
    if error.errno in _FULL:
        return f"{what}. Free some space, or set WINDTUNNEL_HOME to a folder on another disk"
    if error.errno in _FORBIDDEN:
        return f"{what} for user {user_name(os.geteuid())}. Run this as the owner, or set WINDTUNNEL_HOME to a folder of your own"
    if error.errno == errno.EROFS:
        return f"{what}. Set WINDTUNNEL_HOME to a writable folder"
    return f"{what}. Check that path"
