"""Load what packages declare with entry points."""

import pkgutil
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from windtunnel.errors import WindtunnelError

OURS = "windtunnel"

_Declared = TypeVar("_Declared")


def read(group: str, declare: Callable[[EntryPoint], None], problems: dict[str, WindtunnelError]) -> None:
    """Call `declare` with each entry point of a group. What is wrong is added to `problems`, by the name of the entry point.

    The project's own are the first: of two that contradict each other, the other package's is wrong.
    """
    for point in sorted(entry_points(group=group), key=lambda point: point.dist is None or point.dist.name != OURS):
        try:
            declare(point)
        except Exception as error:  # it reads what another package's code has made
            problem = str(error) if isinstance(error, WindtunnelError) else f"{error!r}. Repair or uninstall the package"
            if origin(point) not in problem:
                problem = f"{origin(point)} is wrong: {problem}"
            problems[point.name] = WindtunnelError(f"{problems[point.name]}; {problem}" if point.name in problems else problem)


def load(point: EntryPoint, kind: type[_Declared]) -> _Declared:
    """Return the value of an entry point.

    Raises:
        WindtunnelError: it cannot be imported or is not a `kind`.
    """
    try:
        declared: Any = point.load()
    except Exception as error:  # it is another package's code
        raise WindtunnelError(f"{origin(point)} cannot be loaded ({error!r}). Repair or uninstall the package") from error
    if not isinstance(declared, kind):
        raise WindtunnelError(f"{origin(point)} is of type {type(declared).__name__}, expected {kind.__name__}")
    return declared


def origin(point: EntryPoint) -> str:
    """Return an entry point as errors name it: its distribution, group, name and value."""
    package = point.dist.name if point.dist else "an unknown package"
    return f"the entry point {point.name} = {point.value} ({point.group}) of {package}"


def resolve(named: str, owner: str) -> Any:
    """Import what a declaration names as `MODULE:NAME`; `owner` is the name of the declared model or backend.

    Raises:
        WindtunnelError: it cannot be imported.
    """
    try:
        return pkgutil.resolve_name(named)
    except (ImportError, AttributeError, ValueError) as error:
        raise WindtunnelError(f"{named}, which {owner} declares, cannot be loaded ({error}). Repair the package") from error
