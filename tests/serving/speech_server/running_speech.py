"""The speech server, real: the program with an INI file, on a free port, with a folder of its own."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from serving.speech_server.models import MODELS
from serving.speech_server.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech_server.protos.speech_pb2 import GetModelRequest
from serving.speech_server.protos.speech_pb2_grpc import SpeechStub
from tests.processes import started
from tests.waiting import PATIENCE, RUN_PATIENCE, wait_for
from windtunnel.files import write_json
from windtunnel.platform.ports import free_ports
from windtunnel.settings import ROOT

DIRECT = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that is a coroutine, as one that pytest knows how to run."""

    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **fixtures), PATIENCE))

    return run


def ini(folder: Path, endpoint: str, **changes: str) -> str:
    """An INI file with all that has no default, below `folder`; changes and additions by key."""
    rpc = {"Endpoint": endpoint, "MaxConcurrentRPCs": "1200"}
    words = {
        "IWorkers": "1",
        "StateFile": f"{folder}/suggestions.db",
        "InferUploadPath": "",
        "TrainingUploadPath": f"{folder}/suggestions",
        "BaseSamplesPath": "",
        "NewModelsPath": f"{folder}/models",
        "ModelPath": "",
        "SamplesBeforeTrain": "100",
    }
    new = ("CertificateFile", "KeyFile", "TokensFile", "MetricsEndpoint")
    for key, value in changes.items():
        (rpc if key in rpc or key in new else words)[key] = value
    sections = {"RPCServer": rpc, "DLServer": words}
    return "\n".join(f"[{name}]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items()) for name, keys in sections.items())


def tls(folder: Path) -> dict[str, str]:
    """Make a certificate for this machine and its key in `folder`. Returns the changes of an INI file for a server that uses them."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*made, "-keyout", "key.pem", "-out", "certificate.pem"], cwd=folder, check=True, capture_output=True)
    return {"CertificateFile": f"{folder}/certificate.pem", "KeyFile": f"{folder}/key.pem"}


@dataclass
class SpeechServer:
    """A server that listens on `port`, with all it keeps in `folder`."""

    folder: Path
    port: int
    process: subprocess.Popen[str]
    channels: list[grpc.Channel] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def channel(self) -> grpc.Channel:
        if not self.channels:
            self.channels.append(grpc.insecure_channel(self.address, DIRECT))
        return self.channels[0]

    @property
    def old(self) -> DLServerStub:
        return DLServerStub(self.channel)

    @property
    def new(self) -> SpeechStub:
        return SpeechStub(self.channel)

    def want(self, champion: int | None, *versions: int) -> None:
        """What a release writes."""
        write_json(self.models / MODELS, {"versions": versions, "champion": champion})

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_until_retrained(self) -> None:
        """Wait until users get the first version that it has trained; a training that fails would be tried again without end."""

        def retrained() -> bool:
            assert "the model was not retrained" not in self.log(), self.log()
            return self.new.GetModel(GetModelRequest()).champion == 1

        wait_for(retrained, RUN_PATIENCE, explain=self.log)

    def stop(self) -> None:
        for channel in self.channels:
            channel.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.log()


@contextmanager
def running(folder: Path, **changes: str) -> Iterator[SpeechServer]:
    """Start the server, wait until it listens, and stop it in the end."""
    port = free_ports(1)[0]
    (folder / "server.ini").write_text(ini(folder, f"127.0.0.1:{port}", **changes))
    command = [sys.executable, "-m", "serving.speech_server.serve", str(folder / "server.ini")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log, started(command, cwd=folder, env=environment, stdout=log, stderr=log, text=True) as process:
        server = SpeechServer(folder, port, process)
        wait_for(lambda: process.poll() is not None or "dlserver listens" in server.log(), explain=server.log)
        assert process.poll() is None, server.log()
        yield server
        if process.poll() is None:
            server.stop()
