"""TorchServe's tokens: https://github.com/pytorch/serve/blob/master/docs/token_authorization_api.md."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx

from serving.server import START, ServerError

Kind = Literal["management", "inference"]

WRITTEN_SECONDS = 10  # TorchServe does not write the file in one step
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
            try:
                self.client.get(self.url, params={"type": kind}, headers=authorization(tokens["API"]["key"])).raise_for_status()
            except httpx.HTTPError as error:
                raise ServerError(
                    f"torchserve does not renew a token at {self.url} ({error}): is it the one of {self.file}?", True
                ) from error
        return self._read()[kind]["key"]

    def _read(self) -> dict[str, dict[str, str]]:
        deadline = time.monotonic() + WRITTEN_SECONDS
        while True:
            try:
                return json.loads(self.file.read_bytes())
            except PermissionError as error:
                raise ServerError(f"{self.file} is another user's: run this as the one who started the platform") from error
            except OSError as error:
                missing = f"there are no tokens in {self.file} ({error.strerror})"
                raise ServerError(f"torchserve is not running: {missing}; {START}", True) from error
            except ValueError as error:
                if time.monotonic() > deadline:
                    raise ServerError(f"{self.file} does not hold torchserve's tokens ({error}): start it again", True) from error
            time.sleep(0.01)


def authorization(token: str) -> dict[str, str]:
    """The header, or gRPC metadata, that carries a token."""
    return {"authorization": f"Bearer {token}"}
