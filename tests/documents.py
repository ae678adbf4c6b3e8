"""The project's documents: the README, and the pages in docs/."""

import re
from textwrap import dedent

from windtunnel.settings import ROOT

PAGES = ("README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")))


def section(page: str, heading: str) -> str:
    """What a page says below a heading such as `## Ask a model`, up to the next heading of its level."""
    level = heading.partition(" ")[0]
    return (ROOT / page).read_text().split(f"\n{heading}\n")[1].split(f"\n{level} ")[0]


def table(page: str, heading: str) -> list[dict[str, str]]:
    """The rows of the table below a heading, by the names of its columns."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("|")]
    names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(names, row, strict=True)) for row in rows]


def blocks(text: str, languages: str) -> list[tuple[str, str]]:
    """The code blocks of a text in languages such as `sh|python`: the language and the code of each, without the indent of a list."""
    found = re.findall(rf"^ *```({languages})\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [(language, dedent(code)) for language, code in found]
