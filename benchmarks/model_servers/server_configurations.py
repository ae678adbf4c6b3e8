"""The server configurations that `server_tuning` compares, and a program that starts a server in one of them.

python -m benchmarks.model_servers.server_configurations torchserve | tfserving CONFIGURATION

`tuned` is the platform's own configuration, as in `serving.backends.torchserve.serve` and `serving.backends.tfserving.serve`.
"""

import os
from pathlib import Path
from typing import Literal

import typer

from serving.backends.tfserving import serve as tfserving_program
from serving.backends.torchserve import serve as torchserve_program
from serving.backends.torchserve.configuration import TUNED, Config
from windtunnel.platform.program import run_app
from windtunnel.settings import load_settings

TORCHSERVE = {"stock": Config(handler=Path(__file__).with_name("stock_handler.py"), workers=os.cpu_count() or 1), "tuned": TUNED}
"""`stock` is TorchServe's default configuration, except for the addresses."""

TFSERVING = {
    "stock": ("--enable_batching=false",),
    "batching": ("--enable_batching=true", *tfserving_program.SMALL),
    "tuned": tfserving_program.TUNED,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def torchserve(configuration: Literal["stock", "tuned"]) -> None:
    """Start TorchServe in a configuration."""
    torchserve_program.serve(load_settings(), TORCHSERVE[configuration])


@app.command()
def tfserving(configuration: Literal["stock", "batching", "tuned"]) -> None:
    """Start the embedded TensorFlow Serving in a configuration."""
    tfserving_program.serve(load_settings(), TFSERVING[configuration])


if __name__ == "__main__":
    run_app(app)
