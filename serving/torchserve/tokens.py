"""TorchServe's tokens: https://github.com/pytorch/serve/blob/master/docs/token_authorization_api.md."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx

from serving.server import ServerError

Kind = Literal["management", "inference"]

REFUSED = "Token Authorization failed"
"""What TorchServe says of a missing, wrong or expired token, with a 400."""


@dataclass(frozen=True)
class Tokens:
    """The tokens in `file`, which `url` renews.

    TorchServe writes the file and every client reads it: a token that one of them renews is the others' too, and the one before is
    refused from then on.
    """

    file: Path
    url: str
    client: httpx.Client

    def get(self, kind: Kind) -> str:
        """A token that has not expired.

        Raises:
            ServerError: there is no file of tokens, or TorchServe does not renew one.
        """
        token = self._read()[kind]
        if datetime.fromisoformat(token["expiration time"]) <= datetime.now(UTC):
            return self.renew(kind, token["key"])
        return token["key"]

    def renew(self, kind: Kind, refused: str) -> str:
        """A token other than the one that was refused: another client's, or else a new one."""
        tokens = self._read()
        if tokens[kind]["key"] == refused:
            self.client.get(self.url, params={"type": kind}, headers=authorization(tokens["API"]["key"])).raise_for_status()
        return self._read()[kind]["key"]

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            return json.loads(self.file.read_bytes())
        except (OSError, ValueError) as error:
            raise ServerError(f"TorchServe is not running: its tokens, {self.file}, cannot be read ({error}); start it", True) from error


def authorization(token: str) -> dict[str, str]:
    """The header, or gRPC metadata, that carries a token."""
    return {"authorization": f"Bearer {token}"}
