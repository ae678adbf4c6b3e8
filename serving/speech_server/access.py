"""Authentication: a caller is known by the name of its token or, if tokens are not used, by its address."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

import grpc

from serving.speech_server.status import CallError, Code
from windtunnel.errors import WindtunnelError

Context: TypeAlias = grpc.aio.ServicerContext
Tokens = Mapping[str, str]
"""Names by the SHA-256 of their tokens, so that a lookup takes no longer for a token that is nearly right."""

_BEARER = "Bearer "


class Access:
    """Decides who may call: callers with a known token, or everybody if there are no tokens."""

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens

    def check(self, context: Context) -> None:
        """Reject a call without a valid token if one is required. Raises what `caller` raises."""
        if self._tokens is not None:
            self.caller(context)

    def caller(self, context: Context) -> str:
        """Return the name of the call's token or, if there are no tokens, the address of the caller.

        Raises:
            CallError: the token is missing or unknown.
        """
        if self._tokens is None:
            return address(context.peer())
        name = bearer(context, self._tokens)
        if name is None:
            raise CallError(Code.UNAUTHENTICATED, "the token is missing or unknown. Send the metadata `authorization: Bearer TOKEN`")
        return name


def read_tokens(file: Path) -> Tokens:
    """Read lines `NAME TOKEN`; empty lines and lines that begin with # are ignored.

    Raises:
        WindtunnelError: the file cannot be read, has an invalid line, or contains no token.
    """
    try:
        lines = [line.split() for line in file.read_text("utf-8-sig").splitlines() if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise WindtunnelError(f"TokensFile {file} cannot be read ({error}). Write a line NAME TOKEN for each client") from error
    for number, line in enumerate(lines, 1):
        if len(line) != 2:
            raise WindtunnelError(f"TokensFile {file}: found {len(line)} words in entry {number}, expected NAME TOKEN")
    if not lines:
        raise WindtunnelError(f"TokensFile {file} contains no token. Write a line NAME TOKEN for each client")
    return {_digest(token): name for name, token in lines}


def bearer(context: Context, tokens: Tokens) -> str | None:
    """Return the name of the call's token if it is one of these, otherwise None."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith(_BEARER):
            return tokens.get(_digest(value.removeprefix(_BEARER)))
    return None


def address(peer: str) -> str:
    """Return the IP address of a peer that gRPC writes as `ipv4:127.0.0.1:40000` or `ipv6:%5B::1%5D:40000`; other peers unchanged."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
