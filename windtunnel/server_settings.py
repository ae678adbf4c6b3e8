"""The settings of a model server: its host and its ports. Each backend declares a subclass for its server."""

import re
from abc import abstractmethod
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

LOOPBACK = "127.0.0.1"


def _host(value: str) -> str:
    name, number = r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", r"[0-9]+"
    if not re.fullmatch(name, value) or (re.fullmatch(number, value.rpartition(".")[2]) and not _is_ipv4(value)):
        raise ValueError("expected a host name or an IPv4 address, such as 127.0.0.1")
    return value


def _is_ipv4(value: str) -> bool:
    try:
        return bool(IPv4Address(value))
    except AddressValueError:
        return False


Empty = BeforeValidator(lambda value: None if value in ("", "none") else value)
Host = Annotated[str, AfterValidator(_host)]
OptionalHost = Annotated[Host | None, Empty]
Port = Annotated[int, Field(ge=1, le=65535)]


class ServerSettings(BaseModel):
    """The settings of a model server.

    A subclass declares the server's ports, as fields whose names end in `port`, and what else can be set. Every field has a default and
    a docstring for docs/settings.md. `Settings` reads it from the environment variable `WINDTUNNEL_BACKEND_FIELD`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    health: ClassVar[str | None] = None
    """The path of the HTTP health check at `address`. None: the server listens only when it can answer."""

    host: OptionalHost = None
    """The server's host, if it is not `WINDTUNNEL_HOST`."""

    _platform_host: str = LOOPBACK

    @property
    @abstractmethod
    def address(self) -> str:
        """The address for users: a URL without a trailing slash, or HOST:PORT."""

    @property
    def reached_at(self) -> str:
        """The host at which clients reach the server."""
        return self.host or self._platform_host

    @property
    def ports(self) -> dict[str, int]:
        """The ports on which the server listens, by field."""
        return {name: value for name, value in self if name.endswith("port")}

    @property
    def published(self) -> Self:
        """These settings with the server on the platform's host."""
        return self.model_copy(update={"host": None})

    def on(self, host: str) -> Self:
        """Return these settings for a platform on that host."""
        copy = self.model_copy()
        copy._platform_host = host
        return copy
