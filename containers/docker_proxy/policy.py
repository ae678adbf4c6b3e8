"""What the worker may ask of the container engine; everything else is refused.

The worker runs containers (or Swarm services) of this project's images that cannot harm the host, and inspects, stops and removes what
it started. A request passes if its method and path are in `ROUTES` and its query and body fit the models named there. Their members have
the names of the engine's API (https://docs.docker.com/engine/api/v1.41/). A member that is not named here is refused, whatever its value,
and so is a value of another type. What the members do not say is the engine's default.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    StringConstraints,
    ValidationInfo,
    model_validator,
)


@dataclass(frozen=True)
class Project:
    """The project whose containers may be run."""

    name: str
    """The compose project: the start of its volumes' and network's names, and the label `windtunnel.project`."""
    images: str
    """The prefix of its images' names."""
    data: str
    """The data sets' folder on the host, an absolute path; anything else where they are in the volume `data`."""

    @property
    def image(self) -> str:
        """The pattern of its images' names."""
        return rf"{re.escape(self.images)}/[a-z_-]+:[A-Za-z0-9_.-]+"

    @property
    def volumes(self) -> list[tuple[str, str]]:
        """Type and source of what tasks may mount to write to."""
        return [("volume", f"{self.name}_{name}") for name in ("runs", "serving", "tensorboard")]

    @property
    def read_only(self) -> list[tuple[str, str]]:
        """The same of what they may mount read-only: data sets, and the public key that verifies versions."""
        volumes = [("volume", f"{self.name}_{name}") for name in ("data", "release-secrets")]
        return [*volumes, *([("bind", self.data)] if self.data.startswith("/") else [])]


# Values


def _image(value: str, info: ValidationInfo[Project]) -> str:
    if not re.fullmatch(info.context.image, value):
        raise ValueError("not one of this project's images")
    return value


def _network(value: str, info: ValidationInfo[Project]) -> str:
    if value != f"{info.context.name}_tasks":
        raise ValueError("not this project's network for tasks")
    return value


def _labels(value: dict[str, str], info: ValidationInfo[Project]) -> dict[str, str]:
    if value.get("windtunnel.project") != info.context.name:
        raise ValueError("windtunnel.project is not this project")
    return value


def _label_filter(value: list[str], info: ValidationInfo[Project]) -> list[str]:
    # exactly one: of two values for one label, Swarm looks at either
    if [label for label in value if label.partition("=")[0] == "windtunnel.project"] != [f"windtunnel.project={info.context.name}"]:
        raise ValueError("windtunnel.project is not this project")
    return value


ProjectImage = Annotated[str, AfterValidator(_image)]
ProjectNetwork = Annotated[str, AfterValidator(_network)]
LabelName = Annotated[str, StringConstraints(pattern=r"^(windtunnel\.[a-z_]+|name)$")]
ProjectLabels = Annotated[dict[LabelName, str], AfterValidator(_labels)]
ProjectLabelFilter = Annotated[list[str], AfterValidator(_label_filter)]
Number = Annotated[str, StringConstraints(pattern=r"^-?[0-9]+$")]
Flag = Literal["0", "1", "False", "True"]
EmptyList = Annotated[list[str], Field(max_length=0)]


class Part(BaseModel):
    """A part of a request, with these members and no others, of exactly these types. Members without a default must be there."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Empty(Part):
    """Without any member."""


# Bodies


class Mount(Part):
    """One of the project's volumes, or what tasks only read."""

    Type: Literal["volume", "bind"]
    Source: str
    Target: str
    ReadOnly: bool

    @model_validator(mode="after")
    def _allowed(self, info: ValidationInfo[Project]) -> Self:
        source = (self.Type, self.Source)
        if source not in info.context.volumes and not (source in info.context.read_only and self.ReadOnly):
            raise ValueError("neither one of this project's volumes nor, read-only, its data sets or its public key")
        return self


class DefaultLog(Part):
    """The engine's default."""

    Type: None = None
    config: Empty = Field(alias="Config")  # pydantic takes a member `Config` for its own


class Host(Part):
    """A container's network, mounts and limits: no capability, device, namespace or port of the host."""

    NetworkMode: ProjectNetwork
    Mounts: list[Mount] = []
    Memory: NonNegativeInt = 0
    CpuShares: NonNegativeInt = 0
    NanoCpus: NonNegativeInt = 0
    PortBindings: Empty = Empty()
    Ulimits: EmptyList = []
    LogConfig: DefaultLog = DefaultLog(Config=Empty())


class Container(Part):
    """What a container runs: the image's entrypoint, as the image's user."""

    Image: ProjectImage
    Labels: ProjectLabels
    HostConfig: Host
    Cmd: list[str] = []
    Env: list[str] = []
    Tty: bool = False
    OpenStdin: Literal[False] = False
    StdinOnce: Literal[False] = False
    AttachStdin: Literal[False] = False
    AttachStdout: bool = True
    AttachStderr: bool = True
    NetworkDisabled: bool = False
    ExposedPorts: Empty = Empty()


class ServiceContainer(Part):
    """The same of a service's container, whose `Command` would replace the image's entrypoint."""

    Image: ProjectImage
    Command: None = None
    Args: list[str] = []
    Env: list[str] = []
    Mounts: list[Mount] = []
    TTY: bool = False


class ServiceLimits(Part):
    """A service's limits."""

    NanoCPUs: NonNegativeInt = 0
    MemoryBytes: NonNegativeInt = 0


class ServiceResources(Part):
    """Limits, and nothing reserved."""

    Limits: ServiceLimits


class NoRestart(Part):
    """A task runs once."""

    Condition: Literal["none"]
    Delay: NonNegativeInt = 0
    MaxAttempts: NonNegativeInt = 0
    Window: NonNegativeInt = 0


class ServiceNetwork(Part):
    """A network of a service."""

    Target: ProjectNetwork


class ServiceTask(Part):
    """A service's one task."""

    ContainerSpec: ServiceContainer
    Networks: Annotated[list[ServiceNetwork], Field(min_length=1, max_length=1)]
    Resources: ServiceResources
    RestartPolicy: NoRestart


class Service(Part):
    """A service, judged as a container is."""

    Name: str
    Labels: ProjectLabels
    TaskTemplate: ServiceTask


# Queries


class LabelFilter(Part):
    """What has this project's label, and perhaps others."""

    label: ProjectLabelFilter


class ServiceFilter(Part):
    """What belongs to one service."""

    service: Annotated[list[Annotated[str, StringConstraints(pattern="^[a-z0-9]{25}$")]], Field(min_length=1, max_length=1)]


class ImageFilter(Part):
    """Images of this project."""

    reference: Annotated[list[ProjectImage], Field(min_length=1)]


class ListImages(Part):
    """GET /images/json."""

    filters: ImageFilter
    all: Flag = "0"
    only_ids: Flag = "0"


class ListContainers(Part):
    """GET /containers/json."""

    filters: LabelFilter
    all: Flag = "0"
    limit: Number = "-1"
    size: Flag = "0"
    trunc_cmd: Flag = "0"


class ListServices(Part):
    """GET /services."""

    filters: LabelFilter


class ListTasks(Part):
    """GET /tasks."""

    filters: ServiceFilter


class Logs(Part):
    """GET /containers/{id}/logs, GET /services/{id}/logs."""

    stdout: Flag = "0"
    stderr: Flag = "0"
    follow: Flag = "0"
    timestamps: Flag = "0"
    details: Flag = "0"
    since: Number = "0"
    tail: Annotated[str, StringConstraints(pattern="^(all|[0-9]+)$")] = "all"


class Attach(Part):
    """POST /containers/{id}/attach: to read the output from now on, not to write."""

    logs: Literal["0"]
    stdout: Literal["1"]
    stderr: Literal["1"]
    stream: Literal["1"]


class Stop(Part):
    """POST /containers/{id}/stop."""

    t: Number = "0"


class Remove(Part):
    """DELETE /containers/{id}."""

    v: Flag = "0"
    force: Flag = "0"
    link: Literal["False"] = "False"


# Requests


@dataclass(frozen=True)
class Route:
    """A request that passes, with nothing in its query and body but what is named."""

    method: str
    path: str
    query: type[Part] = Empty
    body: type[Part] | None = None
    upgrade: bool = False
    """Whether the answer is a stream of another protocol than HTTP."""


# Containers and services are named by their whole ids, which only their creator and the lists know, and the lists are of this project
# alone; but for a worker, whose host name is the start of its id. Versions of the API before 1.40 have other rules: a container could
# get its rights when it is started.
ROUTES = (
    Route("GET", "/_ping"),
    Route("GET", "/version"),
    Route("GET", "{api}/_ping"),
    Route("GET", "{api}/version"),
    Route("GET", "{api}/info"),
    Route("GET", "{api}/images/json", ListImages),
    Route("GET", "{api}/images/{image}/json"),
    Route("GET", "{api}/containers/json", ListContainers),
    Route("GET", "{api}/containers/{host_name}/json"),
    Route("GET", "{api}/containers/{container}/json"),
    Route("GET", "{api}/containers/{container}/logs", Logs),
    Route("POST", "{api}/containers/create", body=Container),
    Route("POST", "{api}/containers/{container}/attach", Attach, upgrade=True),
    Route("POST", "{api}/containers/{container}/start"),
    Route("POST", "{api}/containers/{container}/wait"),
    Route("POST", "{api}/containers/{container}/stop", Stop),
    Route("POST", "{api}/containers/{container}/kill"),
    Route("DELETE", "{api}/containers/{container}", Remove),
    Route("GET", "{api}/services", ListServices),
    Route("GET", "{api}/services/{service}"),
    Route("GET", "{api}/services/{service}/logs", Logs),
    Route("POST", "{api}/services/create", body=Service),
    Route("DELETE", "{api}/services/{service}"),
    Route("GET", "{api}/tasks", ListTasks),
)
