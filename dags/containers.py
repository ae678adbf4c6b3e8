"""Operators that run a task's command in an image: as a container of an engine, or as a service of its Swarm."""

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

from dags.engine import Engine, Swarm, labels
from dags.reaper import owner
from dags.runtime import skip
from windtunnel.run import SKIPPED
from windtunnel.settings import Settings

VOLUMES = {"train_server": ("runs", "tensorboard"), "serving": ("runs", "serving", "tensorboard")}
STOP_SECONDS = 2  # Airflow kills a cancelled task's process after 5 s
LOG_SECONDS = 1


class InImage:
    """What the two operators share. A task ends as `dags.runtime.ProcessOperator` says, and leaves no container.

    What a task that is killed cannot remove itself, its next try or the reaper does.
    """

    template_fields: Sequence[str] = ("command",)
    template_ext: Sequence[str] = ()
    ui_color = "#d8e8f0"
    api: ClassVar[type[Engine]]

    def __init__(self, *, command: list[Any], image: str, settings: Settings, **kwargs: Any) -> None:
        """`image` is one of the project's, such as `train_server`."""
        super().__init__(
            command=command,
            image=f"{settings.images}/{image}:{settings.image_tag}",
            docker_url=settings.docker_url,
            environment=settings.variables,
            mounts=_mounts(settings, image),
            mem_limit=settings.task_memory,
            cpus=settings.task_cpus,
            mount_tmp_dir=False,
            auto_remove="never",  # it would go before anybody can see why it failed: `execute` removes it
            **kwargs,
        )
        self.project = settings.docker_project
        self.labels: dict[str, str] = {}

    @cached_property
    def cli(self) -> Engine:
        """The engine, once it has answered."""
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
            raise AirflowException(f"the engine at {self.docker_url} did not run {self.image}: {said}") from None

    def check(self) -> None:
        """Before anything is started: can it be?"""

    def outcome(self) -> tuple[int | None, str]:
        """After a failure: the command's exit status, if there is one, and what happened, or, of a skip, its reason."""
        raise NotImplementedError

    def reason(self, identifier: str, container: str, status: int, ended: str) -> str:
        """What a failure or a skip comes from. The reason for a skip is the last line on stdout, that for an error on stderr."""
        if self.cli.state(container).get("OOMKilled"):
            return f"was out of memory at {self.mem_limit}; give tasks more with WINDTUNNEL_TASK_MEMORY"
        skipped = status == SKIPPED
        line = "".join(self.cli.lines(identifier, stdout=skipped, stderr=not skipped)[-1:])
        return line if skipped else f"{ended}: {line}"

    def on_kill(self) -> None:
        """Stop and remove the container, over a connection of its own: this interrupts what goes on over the other."""
        if self.labels:
            _discard(self.api(self.docker_url), self.labels, STOP_SECONDS)


class ContainerOperator(InImage, DockerOperator):
    """Run a command in a container."""

    api = Engine

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(settings=settings, network_mode=f"{settings.docker_project}_tasks", **kwargs)

    def check(self) -> None:
        """See that the image is there: the provider pulls what is not, and the project's images are built, not pulled."""
        try:
            self.cli.inspect_image(self.image)
        except ImageNotFound:
            remedy = "build it with `docker compose build`, or set WINDTUNNEL_IMAGES and WINDTUNNEL_IMAGE_TAG to those that are"
            raise AirflowFailException(f"the image {self.image} is not on the engine at {self.docker_url}: {remedy}") from None

    def outcome(self) -> tuple[int | None, str]:
        """Ask the container."""
        container = self.container["Id"]
        if not (state := self.cli.state(container)):
            return None, "was removed while it ran"
        status = state["ExitCode"]
        return status, self.reason(container, container, status, f"ended with status {status}")


class ServiceOperator(InImage, DockerSwarmOperator):
    """Run a command as a service of a Swarm, on whichever of its nodes."""

    api = Swarm

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        limits = Resources(cpu_limit=int(settings.task_cpus * 10**9), mem_limit=parse_bytes(settings.task_memory))
        networks = [f"{settings.docker_project}_tasks"]
        super().__init__(settings=settings, networks=networks, container_resources=limits, service_prefix=settings.docker_project, **kwargs)

    def check(self) -> None:
        """Hand over what the provider leaves out."""
        self.args = self.command
        self.cli.labels = self.labels

    @staticmethod
    def format_command(command: Any) -> None:
        """None, which leaves the image its entrypoint: what Swarm calls `command` would replace it. The words are in `args`."""

    def outcome(self) -> tuple[int | None, str]:
        """Ask the service's task."""
        if not (found := self._status()):
            return None, "was removed while it ran"
        container = found.get("ContainerStatus", {})
        ended = f"ended as {found['State']} ({found.get('Err')})"
        status = container.get("ExitCode")
        return status, self.reason(self.service["ID"], container.get("ContainerID"), status, ended)

    def _service_status(self) -> str:
        """As one of Swarm's states (https://docs.docker.com/engine/swarm/how-swarm-mode-works/swarm-task-states/)."""
        return self._status().get("State", "remove")

    def _status(self) -> dict[str, Any]:
        """What Swarm says of the service's one task; nothing if it has been removed."""
        tasks = self.cli.tasks(filters={"service": self.service["ID"]})
        return tasks[0]["Status"] if tasks else {}

    def _stream_logs_to_output(self) -> None:
        """Log the lines as they come, and all of them: the provider's own loses those between its last look and the end."""
        ended, logged = False, 0
        while not ended:
            time.sleep(LOG_SECONDS)
            ended = self._has_service_terminated()
            lines = self.cli.lines(self.service["ID"], stdout=True, stderr=True)
            for line in lines[logged:]:
                self.log.info("%s", line)
            logged = len(lines)


def _mounts(settings: Settings, image: str) -> list[Mount]:
    """The project's volumes that a task in this image works on, where its settings look for them, and to trainers the data sets."""
    mounts = [Mount(f"{settings.home}/{name}", f"{settings.docker_project}_{name}") for name in VOLUMES[image]]
    if image == "train_server":
        data = settings.docker_data or f"{settings.docker_project}_data"
        kind = "bind" if data.startswith("/") else "volume"
        mounts.append(Mount(f"{settings.home}/data", data, type=kind, read_only=True))
    return mounts


def _discard(engine: Engine, wanted: dict[str, str], grace: int = 0) -> None:
    for identifier in engine.find(wanted):
        engine.discard(identifier, grace)
