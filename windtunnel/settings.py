"""Where things lie and where they listen: every setting of the platform, each changeable as `WINDTUNNEL_NAME`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from windtunnel.errors import WindtunnelError
from windtunnel.spec import first_problem

ROOT = Path(__file__).resolve().parent.parent

Directory = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
Port = Annotated[int, Field(ge=1, le=65535)]
Cron = Annotated[str | None, BeforeValidator(lambda value: None if value in ("", "none") else value)]


class Settings(BaseSettings):
    """The settings, from the environment or else these defaults.

    `home` keeps everything the platform writes, `dags` is the folder Airflow reads, `schedule` is how often Airflow starts
    training by itself: a cron expression or preset, or `none`.
    """

    model_config = SettingsConfigDict(env_prefix="WINDTUNNEL_", frozen=True)

    root: Directory = ROOT
    home: Directory = ROOT / ".windtunnel"
    dags: Directory = ROOT / "dags"
    host: str = "127.0.0.1"
    airflow_port: Port = 8080
    mlflow_port: Port = 5000
    tensorboard_port: Port = 6006
    torchserve_management_port: Port = 8081
    torchserve_inference_port: Port = 8082
    torchserve_grpc_management_port: Port = 7071
    torchserve_grpc_inference_port: Port = 7070
    tfserving_grpc_port: Port = 8500
    tfserving_rest_port: Port = 8501
    runtime: Literal["process"] = "process"
    schedule: Cron = "@monthly"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which another process finds these settings."""
        return {f"WINDTUNNEL_{name.upper()}": str(value or "none") for name, value in self}

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
        return f"http://{self.host}:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow's UI, tracking and registry, without a trailing slash."""
        return f"http://{self.host}:{self.mlflow_port}"

    @property
    def tensorboard_url(self) -> str:
        """Address of TensorBoard, without a trailing slash."""
        return f"http://{self.host}:{self.tensorboard_port}"

    @property
    def torchserve_url(self) -> str:
        """Address of TorchServe's inference API, without a trailing slash."""
        return f"http://{self.host}:{self.torchserve_inference_port}"

    @property
    def tfserving_url(self) -> str:
        """Address of TensorFlow Serving's REST API, without a trailing slash."""
        return f"http://{self.host}:{self.tfserving_rest_port}"


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        WindtunnelError: a `WINDTUNNEL_` variable holds a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        name, _, problem = first_problem(error).partition(":")
        raise WindtunnelError(f"WINDTUNNEL_{name.upper()}:{problem}") from error


def run_directory(home: Path, dag_id: str, run_id: str) -> Path:
    """The directory of one DAG run: its run id with all but letters, digits, `_`, `.` and `-` replaced.

    Airflow's run ids hold `:` and `+`, which separate fields in mounts and search paths.
    """
    return home / "runs" / dag_id / re.sub(r"[^A-Za-z0-9_.-]", "-", run_id)
