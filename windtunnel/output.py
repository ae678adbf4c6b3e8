"""What commands print: tables for people, JSON for programs."""

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: object) -> None:
    """Print a value as JSON, what JSON does not know as text."""
    print(json.dumps(value, indent=2, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; on a terminal that is too narrow for it each row by itself, a line a cell."""
    from rich.table import Table  # a command that prints none need not wait for it

    from windtunnel.tables import render

    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    text = render(table)
    if sys.stdout.isatty() and len(text.partition("\n")[0]) > shutil.get_terminal_size().columns:
        longest = max(map(len, header))
        records = ("".join(f"{name:{longest}}  {cell}\n" for name, cell in zip(header, row, strict=True)) for row in rows)
        text = "\n".join(records)
    print(text, end="")
