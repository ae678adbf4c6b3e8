"""The table of all settings in the documentation, generated from the code."""

import ast
import inspect
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel

from windtunnel.backend import backends
from windtunnel.server_settings import ServerSettings
from windtunnel.settings import ROOT, Settings, defaults, variable

PLACE = "<!-- the settings -->"
"""What stands in docs/settings.md in place of the table."""


def settings_table() -> str:
    """Return a Markdown table of all settings with their defaults and docstrings."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    said = {variable(name): text for name, text in descriptions(Settings).items()}
    for backend in backends().values():
        said |= {
            variable(backend.name, name): text for kind in (ServerSettings, backend.settings) for name, text in descriptions(kind).items()
        }
    for name, default in defaults().items():
        rows.append(f"| `{name}` | {_default(default)} | {said[name]} |")
    return "\n".join(rows)


def descriptions(kind: type[BaseModel]) -> dict[str, str]:
    """Return the docstring of each setting in a class. Pydantic could read them too, but would do so at the start of every process."""
    (settings,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(settings, ast.ClassDef)
    return {
        field.target.id: str(text.value.value)
        for field, text in pairwise(settings.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _default(value: object) -> str:
    if isinstance(value, Path):
        return "the project's folder" if value == ROOT else f"`{value.relative_to(ROOT)}`"
    return f"`{value}`" if value else "none"
