"""Format tables and counts as plain text."""

from io import StringIO

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table


def counted(number: int, noun: str) -> str:
    """Format a number with its noun, such as `1 epoch` or `5 epochs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def render(table: Table) -> str:
    """Render a table as plain text for logs and files, independent of the terminal. The text ends with a line break."""
    table.box = ROUNDED
    text = StringIO()
    Console(file=text, width=160, color_system=None, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
