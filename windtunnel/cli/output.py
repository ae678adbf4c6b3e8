"""Print the output of commands: tables for people, JSON for programs."""

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: object) -> None:
    """Print a value as JSON. Types that JSON does not have are printed as strings."""
    print(json.dumps(value, indent=2, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. If the terminal is too narrow, print each row as a block with one line per cell."""
    from rich.markup import escape  # slow to import, and not needed by all commands
    from rich.table import Table

    from windtunnel.tables import render

    table = Table(*header)
    for row in rows:
        table.add_row(*map(escape, row))
    text = render(table)
    if sys.stdout.isatty() and len(text.partition("\n")[0]) > shutil.get_terminal_size().columns:
        longest = max(map(len, header))
        records = ("".join(f"{name:{longest}}  {cell}\n" for name, cell in zip(header, row, strict=True)) for row in rows)
        text = "\n".join(records)
    print(text, end="")
