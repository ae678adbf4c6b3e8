"""TorchServe as the tests start it, and what they do with it."""

import io
import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil

from serving.backends.base import ServerError, Version
from serving.backends.torchserve.backend import TorchServe
from serving.backends.torchserve.declaration import TorchServeSettings
from serving.backends.torchserve.stubs import PredictionsRequest, predictions
from serving.backends.torchserve.tokens import authorization
from tests.processes import has_ended
from tests.waiting import PATIENCE, wait_for
from windtunnel.settings import Settings

START = """
from serving.backends.torchserve.configuration import TUNED
from serving.backends.torchserve.serve import serve
from windtunnel.settings import load_settings
from dataclasses import replace
serve(load_settings(), replace(TUNED, **{}))
"""


@dataclass
class Running:
    """A TorchServe of the tests' own. That it takes the tokens in its home proves that it is this one that answers."""

    settings: Settings
    process: subprocess.Popen[bytes]
    server: TorchServe

    def tree(self) -> list[psutil.Process]:
        """The frontend and its workers."""
        frontend = psutil.Process(self.process.pid)
        return [frontend, *frontend.children(recursive=True)]

    def load(self, name: str, number: int, directory: Path) -> None:
        """Publish a version and wait until it is ready."""
        self.server.load(Version(name, number, directory))

    def post(self, name: str, body: bytes, **headers: str) -> httpx.Response:
        """What a user's request is answered over REST."""
        headers = authorization(self.server.tokens.get("inference")) | {each.replace("_", "-"): value for each, value in headers.items()}
        return self.client.post(f"/predictions/{name}", content=body, headers=headers)

    def call(self, name: str, body: bytes, token: str | None = None) -> Any:
        """The same over gRPC, read."""
        request = PredictionsRequest(model_name=name, input={"data": body})
        metadata = tuple(authorization(token or self.server.tokens.get("inference")).items())
        return json.loads(predictions(self.channel)(request, timeout=PATIENCE, metadata=metadata).prediction)

    @cached_property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.server.inference, verify=False, trust_env=False, timeout=PATIENCE)

    @cached_property
    def channel(self) -> grpc.Channel:
        address = self.settings.server(TorchServeSettings).grpc
        return grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)])


def npy(array: np.ndarray) -> bytes:
    """What numpy.save writes of it."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def ended(processes: list[psutil.Process]) -> bool:
    """Wait until all of them have ended."""
    return wait_for(lambda: all(map(has_ended, processes)))


def answers(running: Running) -> bool:
    assert running.process.poll() is None, (running.settings.home / "output").read_text()
    try:
        return running.server.names() is not None
    except ServerError as error:
        if not error.retriable:
            raise
        return False
