"""What commands print: tables for people, JSON for programs."""

import json
from collections.abc import Sequence
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: object) -> None:
    """Print a value as JSON, what JSON does not know as text."""
    print(json.dumps(value, indent=2, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    from rich.table import Table  # a command that prints none need not wait for it

    from windtunnel.tables import render

    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    print(render(table), end="")
