"""Where things lie and where they listen: every setting of the platform, each changeable as `WINDTUNNEL_NAME`."""

import json
import re
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from windtunnel import __version__
from windtunnel.errors import WindtunnelError
from windtunnel.spec import Framework, first_problem

ROOT = Path(__file__).resolve().parent.parent


def _directory(value: Any) -> Path:
    if not str(value):
        raise ValueError("expected a folder")  # the current one would be taken
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:  # ~ of a user that there is not
        raise ValueError(f"expected a folder: {error}") from error


Directory = Annotated[Path, BeforeValidator(_directory)]
Port = Annotated[int, Field(ge=1, le=65535)]
_Empty = BeforeValidator(lambda value: None if value in ("", "none") else value)
Optional = Annotated[str | None, _Empty]


def _host(value: str) -> str:
    name, number = r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", r"[0-9]+"
    if not re.fullmatch(name, value) or (re.fullmatch(number, value.rpartition(".")[2]) and not _is_ipv4(value)):
        raise ValueError("expected a host name or an IPv4 address, such as 127.0.0.1")
    return value


def _is_ipv4(value: str) -> bool:
    try:
        return bool(IPv4Address(value))
    except AddressValueError:
        return False


Host = Annotated[str, AfterValidator(_host)]
OptionalHost = Annotated[Host | None, _Empty]


class Settings(BaseSettings):
    """The settings, from the environment or else these defaults.

    `home` keeps everything the platform writes, `dags` is the folder Airflow reads, `schedule` is how often Airflow starts
    training by itself: a cron expression or preset, or `none`.

    `host` is where servers listen and are found; where each is on a host of its own, as in containers, `mlflow_host` and its like
    say where it is found. TorchServe's management listens on `torchserve_management_host`, whatever host users are let in by.

    `runtime` is how tasks run: as processes, as containers of the engine at `docker_url`, or as services of its Swarm. Their images
    are `IMAGES/NAME:IMAGE_TAG`; they mount the volumes of the compose project `docker_project`, and `docker_data`, a volume or an
    absolute path, for the data sets; each may take `task_memory` and `task_cpus`. `queues` names the Celery queue on which a framework
    trains, such as `{"tensorflow": "big"}`.
    """

    model_config = SettingsConfigDict(env_prefix="WINDTUNNEL_", frozen=True)

    root: Directory = ROOT
    home: Directory = ROOT / ".windtunnel"
    dags: Directory = ROOT / "dags"
    host: Host = "127.0.0.1"
    airflow_host: OptionalHost = None
    mlflow_host: OptionalHost = None
    tensorboard_host: OptionalHost = None
    torchserve_host: OptionalHost = None
    torchserve_management_host: Host = "127.0.0.1"
    tfserving_host: OptionalHost = None
    speech_host: OptionalHost = None
    airflow_port: Port = 8080
    mlflow_port: Port = 5000
    tensorboard_port: Port = 6006
    torchserve_management_port: Port = 8081
    torchserve_inference_port: Port = 8082
    torchserve_grpc_management_port: Port = 7071
    torchserve_grpc_inference_port: Port = 7070
    tfserving_grpc_port: Port = 8500
    tfserving_rest_port: Port = 8501
    speech_port: Port = 55221
    runtime: Literal["process", "docker", "swarm"] = "process"
    images: str = "windtunnel"
    image_tag: str = __version__
    docker_url: str = "unix:///var/run/docker.sock"
    docker_project: str = "windtunnel"
    docker_data: Optional = None
    task_memory: str = "2g"
    task_cpus: Annotated[float, Field(gt=0)] = 1.0
    queues: dict[Framework, str] = {}
    schedule: Optional = "@monthly"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which another process finds these settings."""
        values = {name: json.dumps(value) if isinstance(value, dict) else str(value or "none") for name, value in self}
        return {f"WINDTUNNEL_{name.upper()}": value for name, value in values.items()}

    @property
    def command(self) -> str:
        """The command line, as people type it on the machine that the platform runs on."""
        return "windtunnel" if self.runtime == "process" else "docker compose run --rm windtunnel"

    @property
    def published(self) -> "Settings":
        """The same with every server on `host`, where people find it whichever host programs find it on."""
        return self.model_copy(update={name: None for name, _ in self if name.endswith("_host") and name != "torchserve_management_host"})

    @property
    def runs(self) -> Path:
        """Where runs write: `runs/DAG/RUN`, see `run_directory`."""
        return self.home / "runs"

    @property
    def tensorboard_logs(self) -> Path:
        """The log tree TensorBoard shows."""
        return self.home / "tensorboard"

    @property
    def logs(self) -> Path:
        """Logs of the platform's own processes and of Airflow's tasks."""
        return self.home / "logs"

    @property
    def serving(self) -> Path:
        """Where the model servers keep what is published, a folder a server, and the release its audit log."""
        return self.home / "serving"

    @property
    def airflow_url(self) -> str:
        """Address of Airflow's UI and API, without a trailing slash."""
        return f"http://{self.airflow_host or self.host}:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow's UI, tracking and registry, without a trailing slash."""
        return f"http://{self.mlflow_host or self.host}:{self.mlflow_port}"

    @property
    def tensorboard_url(self) -> str:
        """Address of TensorBoard, without a trailing slash."""
        return f"http://{self.tensorboard_host or self.host}:{self.tensorboard_port}"

    @property
    def torchserve_url(self) -> str:
        """Address of TorchServe's inference API, without a trailing slash."""
        return f"http://{self.torchserve_host or self.host}:{self.torchserve_inference_port}"

    @property
    def torchserve_management_url(self) -> str:
        """Address of TorchServe's management API, without a trailing slash."""
        return f"http://{self.torchserve_host or self.torchserve_management_host}:{self.torchserve_management_port}"

    @property
    def torchserve_grpc(self) -> str:
        """HOST:PORT of TorchServe's inference over gRPC."""
        return f"{self.torchserve_host or self.host}:{self.torchserve_grpc_inference_port}"

    @property
    def tfserving_url(self) -> str:
        """Address of TensorFlow Serving's REST API, without a trailing slash."""
        return f"http://{self.tfserving_host or self.host}:{self.tfserving_rest_port}"

    @property
    def tfserving_grpc(self) -> str:
        """HOST:PORT of TensorFlow Serving over gRPC."""
        return f"{self.tfserving_host or self.host}:{self.tfserving_grpc_port}"

    @property
    def speech_grpc(self) -> str:
        """HOST:PORT of the speech server."""
        return f"{self.speech_host or self.host}:{self.speech_port}"


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        WindtunnelError: a `WINDTUNNEL_` variable holds a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        name, _, problem = first_problem(error).partition(":")
        raise WindtunnelError(f"WINDTUNNEL_{name.partition('.')[0].upper()}:{problem}") from error
    except SettingsError as error:  # the one that holds JSON
        raise WindtunnelError(f'WINDTUNNEL_QUEUES: {error.__cause__}: expected JSON, such as {{"tensorflow": "big"}}') from error


def run_directory(home: Path, dag_id: str, run_id: str) -> Path:
    """The directory of one DAG run: its run id with all but letters, digits, `_`, `.` and `-` replaced.

    Airflow's run ids hold `:` and `+`, which separate fields in mounts and search paths.
    """
    return home / "runs" / dag_id / re.sub(r"[^A-Za-z0-9_.-]", "-", run_id)
