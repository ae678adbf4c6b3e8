"""The settings of the platform: paths, addresses and ports. Each can be set as the environment variable `WINDTUNNEL_NAME`."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from windtunnel import __version__
from windtunnel.backend import Backend, backends, find_backend
from windtunnel.errors import WindtunnelError
from windtunnel.model import FrameworkName
from windtunnel.server_settings import LOOPBACK, Empty, Host, OptionalHost, Port, ServerSettings
from windtunnel.spec import first_problem

ROOT = Path(__file__).resolve().parent.parent
ADMIN = "admin:admin"
"""The user and the role with which the command line is logged in to Airflow."""


def _directory(value: Any) -> Path:
    if not str(value):
        raise ValueError("expected a folder")  # an empty path would mean the current folder
    return _path(value, "a folder")


def _path(value: Any, expected: str = "a file") -> Path:
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:  # ~USER, but there is no such user
        raise ValueError(f"expected {expected}: {error}") from error


def _users(text: str) -> str:
    name = r"[A-Za-z0-9_.@-]+:(admin|op|user|viewer)"
    if not re.fullmatch(f"{name}(,{name})*", text) or ADMIN not in text.split(","):
        expected = f"NAME:ROLE, separated by commas, with {ADMIN} among them and the roles admin, op, user and viewer"
        raise ValueError(f"expected {expected}, such as {ADMIN},ada:viewer")
    return text


Directory = Annotated[Path, BeforeValidator(_directory)]
OptionalFile = Annotated[Path | None, BeforeValidator(lambda value: None if value in (None, "", "none") else _path(value))]
Optional = Annotated[str | None, Empty]

_Server = TypeVar("_Server", bound=ServerSettings)


class Settings(BaseSettings):
    """The settings: the values in the environment, or these defaults.

    `windtunnel/settings_table.py` makes the table of docs/settings.md from their docstrings.

    The settings of the model servers are in `servers`. Each declared backend has some.
    """

    model_config = SettingsConfigDict(env_prefix="WINDTUNNEL_", frozen=True)

    root: Directory = ROOT
    """The project's folder, which holds the `Procfile`."""
    home: Directory = ROOT / ".windtunnel"
    """The folder in which the platform keeps everything that it writes."""
    dags: Directory = ROOT / "dags"
    """The folder from which Airflow reads DAGs."""
    host: Host = LOOPBACK
    """The host name or IPv4 address on which servers listen and at which clients reach them."""
    airflow_host: OptionalHost = None
    """Airflow's host, if it is not `WINDTUNNEL_HOST`. Needed if each server has its own host, as in containers."""
    mlflow_host: OptionalHost = None
    """MLflow's host, if it is not `WINDTUNNEL_HOST`."""
    tensorboard_host: OptionalHost = None
    """TensorBoard's host, if it is not `WINDTUNNEL_HOST`."""
    models_api_host: OptionalHost = None
    """The host of the service behind the page Models, if it is not `WINDTUNNEL_HOST`."""
    airflow_port: Port = 8080
    """Airflow: web interface and REST API."""
    mlflow_port: Port = 5000
    """MLflow: tracking server, registry and web interface."""
    tensorboard_port: Port = 6006
    """TensorBoard."""
    models_api_port: Port = 5050
    """The service behind the page Models in Airflow."""
    users: Annotated[str, AfterValidator(_users)] = ADMIN
    """Airflow's users with their roles, such as `admin:admin,ada:viewer`. A `viewer` only looks; a `user` may also trigger runs."""
    signing_key: OptionalFile = None
    """The private key that signs versions, a PEM file (P-256, P-384 or P-521); by default one that the first start makes."""
    public_key: OptionalFile = None
    """The public key that verifies versions before they are published, a PEM file; by default that of the private key."""
    runtime: Literal["process", "docker", "swarm"] = "process"
    """How each task runs: `process` (a local process), `docker` (a container) or `swarm` (a Swarm service)."""
    images: str = "windtunnel"
    """The prefix of the tasks' images, whose names are `IMAGES/NAME:IMAGE_TAG`."""
    image_tag: str = __version__
    """The tag of the tasks' images."""
    docker_url: str = "unix:///var/run/docker.sock"
    """The address of the container engine's API."""
    docker_project: str = "windtunnel"
    """The compose project whose volumes and network the tasks use."""
    docker_data: Optional = None
    """The volume or absolute path from which containers read data sets; by default the project's volume `data`."""
    task_memory: str = "2g"
    """The memory limit of a task's container."""
    task_cpus: Annotated[float, Field(gt=0)] = 1.0
    """The number of cores that a task's container may use."""
    queues: dict[FrameworkName, str] = {}
    """The Celery queue on which each framework trains, as JSON, such as `{"tensorflow": "big"}`."""
    schedule: Optional = "@monthly"
    """When Airflow starts the DAG `lenet5`: a cron expression or preset, or `none`."""

    _servers: dict[str, ServerSettings]

    def __init__(self, servers: Mapping[str, Mapping[str, Any]] | None = None, **values: Any) -> None:
        """Read the environment.

        Args:
            servers: values of the model servers' settings by the server's name, such as `{"speech": {"port": 7}}`.
            values: values of the other settings. Like those in `servers`, they take precedence over the environment.

        Raises:
            ValidationError: a value is invalid.
            WindtunnelError: a value of a server's settings is invalid, or no package declares a server in `servers`.
        """
        super().__init__(**values)
        given = {find_backend(name).name: chosen for name, chosen in (servers or {}).items()}
        self._servers = {name: _of_server(backend, given.get(name, {})).on(self.host) for name, backend in backends().items()}

    @property
    def servers(self) -> Mapping[str, ServerSettings]:
        """The settings of each model server by name, in the order of `backends`."""
        return self._servers

    def server(self, kind: type[_Server]) -> _Server:
        """Return the settings of the model server whose backend declares this type.

        Raises:
            WindtunnelError: no installed package declares such a backend.
        """
        for server in self._servers.values():
            if type(server) is kind:  # and not of a subclass, which another backend declares
                return cast(_Server, server)
        raise WindtunnelError(f"no backend has the settings {kind.__name__}: found {', '.join(self._servers)}. Install its package")

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that give another process these settings."""
        values = {variable(name): json.dumps(value) if isinstance(value, dict) else str(value or "none") for name, value in self}
        for server, settings in self._servers.items():
            values |= {variable(server, name): str(value or "none") for name, value in settings}
        return values

    @property
    def command(self) -> str:
        """The command line, as users type it on the machine that runs the platform."""
        return "windtunnel" if self.runtime == "process" else "docker compose run --rm windtunnel"

    @property
    def published(self) -> "Settings":
        """These settings with every server on `host`: the addresses for users, where programs use other hosts."""
        settings = self.model_copy(update={name: None for name, _ in self if name.endswith("_host")})
        settings._servers = {name: server.published for name, server in self._servers.items()}
        return settings

    @property
    def runs(self) -> Path:
        """The folder of the runs' directories, `runs/DAG/RUN`. See `run_directory`."""
        return self.home / "runs"

    @property
    def tensorboard_logs(self) -> Path:
        """The log directory that TensorBoard shows."""
        return self.home / "tensorboard"

    @property
    def logs(self) -> Path:
        """The folder with the logs of the platform's processes and of Airflow's tasks."""
        return self.home / "logs"

    @property
    def serving(self) -> Path:
        """The folder in which each model server keeps its published versions, and the release its audit log."""
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
    def models_api_url(self) -> str:
        """Address of the service behind the page Models, without a trailing slash."""
        return f"http://{self.models_api_host or self.host}:{self.models_api_port}"


def variable(*words: str) -> str:
    """Return the environment variable of a setting, whose name is given in parts, such as `speech` and `port`."""
    return "_".join(("WINDTUNNEL", *words)).upper()


def defaults() -> dict[str, Any]:
    """Return the default of every setting by its environment variable."""
    own = {variable(name): field.default for name, field in Settings.model_fields.items()}
    servers = backends().values()
    return own | {variable(backend.name, name): value for backend in servers for name, value in backend.settings()}


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        WindtunnelError: a `WINDTUNNEL_` variable has an invalid value.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise _invalid(error) from error
    except SettingsError as error:  # raised only for the setting that is JSON
        raise WindtunnelError(f'WINDTUNNEL_QUEUES: {error.__cause__}: expected JSON, such as {{"tensorflow": "big"}}') from error


def _of_server(backend: Backend, given: Mapping[str, Any]) -> ServerSettings:
    """Return the settings of a model server: the given values, then the environment, then the defaults."""
    environment = {name.upper(): value for name, value in os.environ.items()}  # like pydantic, which ignores the case
    variables = {name: variable(backend.name, name) for name in backend.settings.model_fields}
    found = {name: environment[variable] for name, variable in variables.items() if variable in environment}
    try:
        return backend.settings(**(found | dict(given)))
    except ValidationError as error:
        raise _invalid(error, backend.name) from error


def _invalid(error: ValidationError, *server: str) -> WindtunnelError:
    name, _, problem = first_problem(error).partition(":")
    return WindtunnelError(f"{variable(*server, name.partition('.')[0])}:{problem}")


def run_directory(home: Path, dag_id: str, run_id: str) -> Path:
    """Return the directory of a DAG run. In the run id, all characters but letters, digits, `_`, `.` and `-` are replaced.

    Airflow's run ids contain `:` and `+`, which are separators in mounts and search paths.
    """
    return home / "runs" / dag_id / re.sub(r"[^A-Za-z0-9_.-]", "-", run_id)
