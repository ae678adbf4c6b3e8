"""How every program of the project begins and ends: typed flags, one-line errors, exit codes."""

import sys
from collections.abc import Callable
from typing import Any

import typer

from windtunnel.errors import WindtunnelError


def run_app(app: typer.Typer) -> None:
    """Run a command line; exit 1 with one line on stderr for a WindtunnelError, 2 for wrong usage."""
    try:
        app()
    except WindtunnelError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def run_program(main: Callable[..., Any]) -> None:
    """Run `main` with the flags that its signature names, as `run_app` does."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app)
