"""A package outside the project that declares a framework, a model and a backend, as an installed distribution has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from windtunnel.backend import backends
from windtunnel.model import declarations

MODULE = """
from typing import ClassVar, Literal

from windtunnel.backend import Backend
from windtunnel.metric import Metric
from windtunnel.model import Framework, Input, Model, Output, python_module
from windtunnel.server_settings import Port, ServerSettings
from windtunnel.spec import Training


class BlobSpec(Training):
    model: Literal["blobs"] = "blobs"
    blobs: int = 4


NUMPY = Framework("numpy", python_module("extension_trainer"), "model.pt", "torchserve", ("numpy",), colour="#123456", marker="*")
ERROR = Metric("error", higher_is_better=False, format="{:.3f}")
POINT = Input("point", (4,), codec="array", reader="serving.backends.arrays:read_arrays")
BLOBS = Model("blobs", "Blobs", BlobSpec, "extension:locate", ERROR, (NUMPY,), POINT, (Output("scores", (3,)), Output("distance", ())))
A_NUMBER = 3


class EchoSettings(ServerSettings):
    health: ClassVar[str | None] = "/alive"
    admin_port: Port = 60001
    port: Port = 60002

    @property
    def address(self) -> str:
        return f"http://{self.reached_at}:{self.port}"


class Echo:
    name = "echo"

    def __init__(self, settings):
        self.address = settings.server(EchoSettings).address


ECHO = Backend("echo", "Echo", "extension:Echo", "extension_server", EchoSettings, ("numpy",))
MUTE = Backend("mute", "Mute", "extension:Nothing", "extension_server", EchoSettings, ())
LOUD = Backend("LOUD", "Loud", "extension:Echo", "extension_server", EchoSettings, ())


def locate(name, say=lambda line: None):
    from extension_data import Drawn

    say(f"{name}: blobs are drawn")
    return Drawn()


def conditions(data, chosen, directory):
    (directory / "order.txt").write_text("4 3 2 1")
    return BlobSpec(dataset=data.name, samples=data.counts()["train"], **chosen)
"""
DATA = """
from pathlib import Path

from windtunnel.data.datasets import Content


class Drawn(Content):
    name, directory, files = "drawn", Path(__file__).parent, {"blobs": "0" * 64}

    def counts(self):
        return {"train": 320, "test": 32}
"""
ENTRY_POINTS = """
[windtunnel.models]
blobs = extension:BLOBS

[windtunnel.frameworks]
lenet5.numpy = extension:NUMPY

[windtunnel.backends]
echo = extension:ECHO
"""
TRAINER = "import sys\nprint('an own trainer,', *sys.argv[1::2])\nsys.exit(3)\n"


def write_extension(folder: Path, entry_points: str = ENTRY_POINTS) -> None:
    """Install the package into `folder`, which is to be on the path of Python's modules."""
    metadata = folder / "extension-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: extension\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    (folder / "extension.py").write_text(MODULE)
    (folder / "extension_data.py").write_text(DATA)
    (folder / "extension_trainer.py").write_text(TRAINER)


@contextmanager
def installed(folder: Path, entry_points: str = ENTRY_POINTS) -> Iterator[None]:
    """Install the package for this process and its children."""
    write_extension(folder, entry_points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), prepend=":")
        declarations.cache_clear()
        backends.cache_clear()
        try:
            yield
        finally:
            declarations.cache_clear()
            backends.cache_clear()
