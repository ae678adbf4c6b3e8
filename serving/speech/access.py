"""Who calls: the name of a token where tokens are used, else an address."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import grpc

from windtunnel.errors import WindtunnelError

Tokens = Mapping[str, str]
"""Names, by the SHA-256 of their tokens: to look one up takes no longer for a token that is nearly right."""

_BEARER = "Bearer "


def read_tokens(file: Path) -> Tokens:
    """Read lines `NAME TOKEN`; empty ones and those that begin with # are left out.

    Raises:
        WindtunnelError: the file cannot be read, has another line, or names no token.
    """
    try:
        lines = [line.split() for line in file.read_text("utf-8-sig").splitlines() if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise WindtunnelError(f"TokensFile {file} cannot be read ({error}): write a line NAME TOKEN for each client") from error
    for number, line in enumerate(lines, 1):
        if len(line) != 2:
            raise WindtunnelError(f"TokensFile {file}: entry {number} has {len(line)} words: write NAME TOKEN")
    if not lines:
        raise WindtunnelError(f"TokensFile {file} names no token: write a line NAME TOKEN for each client")
    return {_digest(token): name for name, token in lines}


def bearer(context: grpc.aio.ServicerContext, tokens: Tokens) -> str | None:
    """The name of the token that a call shows, if it is one of these."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith(_BEARER):
            return tokens.get(_digest(value.removeprefix(_BEARER)))
    return None


def address(peer: str) -> str:
    """The IP address of a peer as gRPC writes it: `ipv4:127.0.0.1:40000`, `ipv6:%5B::1%5D:40000`; of anything else, all of it."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
