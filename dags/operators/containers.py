"""Operators that run a task's command in an image: as a container, or as a Swarm service."""

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from airflow.providers.docker.operators.docker import DockerOperator
from airflow.providers.docker.operators.docker_swarm import DockerSwarmOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from docker.errors import APIError, DockerException, ImageNotFound
from docker.types import Mount, Resources
from docker.utils import parse_bytes
from requests import RequestException

from dags.operators.engine import Engine, Swarm, labels
from dags.operators.reaper import owner
from dags.operators.skipping import skip
from windtunnel.run import SKIPPED
from windtunnel.settings import Settings

VOLUMES = {"train_server": ("runs", "tensorboard"), "serving": ("runs", "serving", "tensorboard")}
STOP_SECONDS = 2  # Airflow kills a cancelled task's process after 5 s
LOG_SECONDS = 1


class InImage(DockerOperator):
    """The base class of both operators. A task ends like one of `dags.operators.runtime.ProcessOperator`, and leaves no container.

    If a task is killed before it can remove its container, its next try or the reaper does so.
    """

    template_fields: Sequence[str] = ("command",)
    template_ext: Sequence[str] = ()
    ui_color = "#d8e8f0"
    api: ClassVar[type[Engine]]
    command: list[Any]
    docker_url: str
    labels: dict[str, str]

    def __init__(self, *, command: list[Any], image: str, settings: Settings, **kwargs: Any) -> None:
        """`image` is the name of one of the project's images, such as `train_server`."""
        super().__init__(
            command=command,
            image=f"{settings.images}/{image}:{settings.image_tag}",
            docker_url=settings.docker_url,
            environment=settings.variables,
            mounts=_mounts(settings, image),
            mem_limit=settings.task_memory,
            cpus=settings.task_cpus,
            mount_tmp_dir=False,
            auto_remove="never",  # `execute` removes it, after it has read why it failed
            **kwargs,
        )
        self.project = settings.docker_project
        self.labels = {}

    @cached_property
    def cli(self) -> Engine:
        """The client of the engine. Connects on first use."""
        return self.api(self.docker_url)

    def execute(self, context: Any) -> None:
        """Run the command to its end."""
        self.command = ["" if word is None else str(word) for word in self.command]
        ti = context["ti"]
        task = labels(project=self.project, dag=ti.dag_id, run=ti.run_id, task=ti.task_id, map_index=ti.map_index)
        try:
            _discard(self.cli, task)
            self.labels = task | labels(**{"try": ti.try_number}) | owner(self.cli)
            self.check()
            try:
                super().execute(context)
            except AirflowException:
                status, reason = self.outcome()
                if status == SKIPPED:
                    skip(ti, reason)
                raise AirflowException(f"{' '.join(self.command[:3])} in {self.image} {reason}") from None
            finally:
                _discard(self.cli, self.labels)
        except (DockerException, RequestException) as error:
            said = error.explanation if isinstance(error, APIError) else error
            raise AirflowException(f"the Docker engine at {self.docker_url} did not run {self.image}: {said}") from None

    def check(self) -> None:
        """Check, before the start, that the command can run."""

    def outcome(self) -> tuple[int | None, str]:
        """Return, after a failure, the command's exit status, if there is one, and what happened; for a skip, its reason."""
        raise NotImplementedError

    def reason(self, identifier: str, container: str, status: int, ended: str) -> str:
        """Return the reason for a failure or a skip: for a skip the last line of stdout, for an error that of stderr."""
        if self.cli.state(container).get("OOMKilled"):
            return f"ran out of memory, with a limit of {self.mem_limit}; raise it with WINDTUNNEL_TASK_MEMORY"
        skipped = status == SKIPPED
        line = "".join(self.cli.lines(identifier, stdout=skipped, stderr=not skipped)[-1:])
        return line if skipped else f"{ended}: {line}"

    def on_kill(self) -> None:
        """Stop and remove the container. Use a new connection, because this call interrupts a request on the other one."""
        if self.labels:
            _discard(self.api(self.docker_url), self.labels, STOP_SECONDS)


class ContainerOperator(InImage):
    """Run a command in a container."""

    api = Engine

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(settings=settings, network_mode=f"{settings.docker_project}_tasks", **kwargs)

    def check(self) -> None:
        """Check that the image exists: the provider would pull it, but the project's images are built, not pulled."""
        try:
            self.cli.inspect_image(self.image)
        except ImageNotFound:
            remedy = "build it with `docker compose build`, or set WINDTUNNEL_IMAGES and WINDTUNNEL_IMAGE_TAG to existing images"
            raise AirflowFailException(f"the Docker engine at {self.docker_url} has no image {self.image}: {remedy}") from None

    def outcome(self) -> tuple[int | None, str]:
        """Return the exit status of the container and what happened."""
        container = self.container["Id"]
        if not (state := self.cli.state(container)):
            return None, "was removed while it ran"
        status = state["ExitCode"]
        return status, self.reason(container, container, status, f"ended with status {status}")


class ServiceOperator(InImage, DockerSwarmOperator):
    """Run a command as a Swarm service, on any node."""

    api = Swarm
    service: Any  # the engine's answer to its creation; the provider's annotation is only None

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        limits = Resources(cpu_limit=int(settings.task_cpus * 10**9), mem_limit=parse_bytes(settings.task_memory))
        networks = [f"{settings.docker_project}_tasks"]
        super().__init__(settings=settings, networks=networks, container_resources=limits, service_prefix=settings.docker_project, **kwargs)

    def check(self) -> None:
        """Set the arguments and labels, which the provider does not pass on."""
        self.args = self.command
        self.cli.labels = self.labels

    @staticmethod
    def format_command(command: Any) -> None:
        """Return None, so that the image keeps its entrypoint, which Swarm's `command` would replace. The words are in `args`."""

    def outcome(self) -> tuple[int | None, str]:
        """Return the exit status of the service's task and what happened."""
        if not (found := self._status()):
            return None, "was removed while it ran"
        container = found.get("ContainerStatus", {})
        ended = f"ended as {found['State']} ({found.get('Err')})"
        status = container.get("ExitCode")
        return status, self.reason(self.service["ID"], container.get("ContainerID"), status, ended)

    def _service_status(self) -> str:
        """Return one of Swarm's states (https://docs.docker.com/engine/swarm/how-swarm-mode-works/swarm-task-states/)."""
        return self._status().get("State", "remove")

    def _status(self) -> dict[str, Any]:
        """Return Swarm's status of the service's only task; empty if it has been removed."""
        tasks = self.cli.tasks(filters={"service": self.service["ID"]})
        return tasks[0]["Status"] if tasks else {}

    def _stream_logs_to_output(self) -> None:
        """Log all lines as they arrive. The provider's method loses those between its last request and the end."""
        ended, logged = False, 0
        while not ended:
            time.sleep(LOG_SECONDS)
            ended = self._has_service_terminated()
            lines = self.cli.lines(self.service["ID"], stdout=True, stderr=True)
            for line in lines[logged:]:
                self.log.info("%s", line)
            logged = len(lines)


def _mounts(settings: Settings, image: str) -> list[Mount]:
    """Return the mounts of a task in this image: the project's volumes, at the paths in its settings, the public key, and data sets."""
    mounts = [Mount(f"{settings.home}/{name}", f"{settings.docker_project}_{name}") for name in VOLUMES[image]]
    mounts.append(Mount(f"{settings.home}/secrets", f"{settings.docker_project}_release-secrets", read_only=True))
    if image == "train_server":
        data = settings.docker_data or f"{settings.docker_project}_data"
        kind = "bind" if data.startswith("/") else "volume"
        mounts.append(Mount(f"{settings.home}/data", data, type=kind, read_only=True))
    return mounts


def _discard(engine: Engine, wanted: dict[str, str], grace: int = 0) -> None:
    for identifier in engine.find(wanted):
        engine.discard(identifier, grace)
