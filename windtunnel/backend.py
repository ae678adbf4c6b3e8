"""Backends as data: what the platform knows about a model server is what its package declares.

A package declares a backend by an entry point of the group `windtunnel.backends`, `NAME = "MODULE:BACKEND"`, whose value is a `Backend`.
Every process that reads the settings imports these modules, so they must not import the client or the server.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint

from pydantic import ValidationError

from windtunnel.declarations import load, origin, read
from windtunnel.errors import WindtunnelError
from windtunnel.server_settings import ServerSettings
from windtunnel.spec import first_problem

BACKENDS = "windtunnel.backends"

# The platform's own processes, and what else `windtunnel up --json` prints: a backend's name would stand for two things.
_TAKEN = ("airflow", "mlflow", "models_api", "scheduler", "supervisor", "tensorboard", "triggerer", "logs", "password_file", "user")


@dataclass(frozen=True)
class Backend:
    """A model server, and our client of it.

    Attributes:
        name: lower-case letters, digits and `_`. Frameworks, processes, commands and environment variables use it.
        title: the server's name in texts.
        client: the subclass of `serving.backends.base.Server`, as `MODULE:CLASS`. It is called with the settings, and imported when needed.
        program: the module that runs the server in the foreground, by `python -m PROGRAM`.
        settings: the type of the server's settings.
        packages: the distributions whose versions benchmarks record.
    """

    name: str
    title: str
    client: str
    program: str
    settings: type[ServerSettings]
    packages: tuple[str, ...]


@cache
def backends() -> dict[str, Backend]:
    """Return all declared backends by name, in the order of their default ports, in which the platform lists its servers.

    A wrong declaration does not affect other backends. See `backend_problems`.
    """
    return _read()[0]


def backend_problems() -> dict[str, WindtunnelError]:
    """Return what is wrong with declarations of backends, by the name of the entry point."""
    return _read()[1]


def find_backend(name: str) -> Backend:
    """Return a declared backend.

    Raises:
        WindtunnelError: no installed package declares it, or its declaration is wrong.
    """
    if name in backends():
        return backends()[name]
    if problem := backend_problems().get(name):
        raise problem
    known = ", ".join(sorted(backends()))
    raise WindtunnelError(f"server {name!r} is unknown: expected one of {known}. Install the package that declares it")


def _read() -> tuple[dict[str, Backend], dict[str, WindtunnelError]]:
    found: dict[str, Backend] = {}
    problems: dict[str, WindtunnelError] = {}
    read(BACKENDS, lambda point: _add(point, found), problems)
    return dict(sorted(found.items(), key=lambda item: min(item[1].settings().ports.values(), default=0))), problems


def _add(point: EntryPoint, found: dict[str, Backend]) -> None:
    declared = load(point, Backend)
    says = f"{origin(point)} declares the backend {declared.name!r}"
    if declared.name != point.name:
        raise WindtunnelError(f"{says}, expected {point.name!r}. Use one name for both")
    if not re.fullmatch("[a-z][a-z0-9_]*", declared.name):
        expected = "lower-case letters, digits and _, which an environment variable can contain"
        raise WindtunnelError(f"{says}, expected {expected}. Give it another name")
    if declared.name in _TAKEN:
        raise WindtunnelError(f"{says}, a name that the platform uses itself. Give it another name")
    if declared.name in found:
        raise WindtunnelError(f"{says} again. Uninstall one of the two packages")
    try:
        settings = declared.settings()
        _ = settings.address, min(settings.ports.values(), default=0)
    except Exception as error:  # it is another package's code
        reason = first_problem(error) if isinstance(error, ValidationError) else repr(error)
        message = f"{origin(point)} has settings that cannot be made ({reason}). Give every field a default, and define `address`"
        raise WindtunnelError(message) from error
    found[declared.name] = declared
