"""TorchServe's tokens: https://github.com/pytorch/serve/blob/master/docs/token_authorization_api.md."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx

from serving.backends.base import START, ServerError

Kind = Literal["management", "inference"]

WRITTEN_SECONDS = 10  # TorchServe does not write the file atomically
REFUSED = "Token Authorization failed"
"""TorchServe's message, with status 400, for a missing, wrong or expired token."""


@dataclass(frozen=True)
class Tokens:
    """The tokens in `file`, which `url` renews.

    TorchServe writes the file and every client reads it. When one client renews a token, the others get the new one from the file, and the
    old one is rejected from then on.
    """

    file: Path
    url: str
    client: httpx.Client

    def get(self, kind: Kind) -> str:
        """Return a token that has not expired.

        Raises:
            ServerError: there is no token file, or TorchServe does not renew a token.
        """
        token = self._read()[kind]
        if datetime.fromisoformat(token["expiration time"]) <= datetime.now(UTC):
            return self.renew(kind, token["key"])
        return token["key"]

    def renew(self, kind: Kind, refused: str) -> str:
        """Return a token other than the rejected one: one that another client has renewed, otherwise a new one."""
        tokens = self._read()
        if tokens[kind]["key"] == refused:
            try:
                self.client.get(self.url, params={"type": kind}, headers=authorization(tokens["API"]["key"])).raise_for_status()
            except httpx.HTTPError as error:
                raise ServerError(
                    f"torchserve at {self.url} does not renew a token ({error}). Check that it is the one that wrote {self.file}", True
                ) from error
        return self._read()[kind]["key"]

    def _read(self) -> dict[str, dict[str, str]]:
        deadline = time.monotonic() + WRITTEN_SECONDS
        while True:
            try:
                return json.loads(self.file.read_bytes())
            except PermissionError as error:
                raise ServerError(f"{self.file} belongs to another user. Run this as the user who started the platform") from error
            except OSError as error:
                missing = f"there are no tokens in {self.file} ({error.strerror})"
                raise ServerError(f"torchserve is not running: {missing}. {START}", True) from error
            except ValueError as error:
                if time.monotonic() > deadline:
                    raise ServerError(f"{self.file} does not contain torchserve's tokens ({error}). Restart it", True) from error
            time.sleep(0.01)


def authorization(token: str) -> dict[str, str]:
    """Return the header, or gRPC metadata, that carries a token."""
    return {"authorization": f"Bearer {token}"}
