"""The client of the Docker engine that runs tasks, and the labels that identify their containers and services."""

from collections.abc import Iterable, Iterator
from typing import Any

from airflow.sdk.exceptions import AirflowException
from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from windtunnel.settings import Settings

CONNECT_SECONDS = 30
ANSWER_SECONDS = 60
GONE = (404, 409)  # it does not exist any more, or another client is removing it


class Engine(APIClient):
    """A client of an engine that runs tasks in containers (https://docs.docker.com/engine/api/v1.41/)."""

    def __init__(self, url: str) -> None:
        """Connect to it.

        Raises:
            AirflowException: no engine answers at `url`.
        """
        try:
            super().__init__(url, timeout=CONNECT_SECONDS)
        except DockerException as error:
            raise AirflowException(f"no Docker engine answers at {url} ({_cause(error)}): start it, or set WINDTUNNEL_DOCKER_URL") from None
        self.timeout = ANSWER_SECONDS

    def create_host_config(self, **options: Any) -> Any:
        """Also limit the CPUs: DockerOperator only turns `cpus` into a weight relative to other containers."""
        return super().create_host_config(**options, nano_cpus=options["cpu_shares"] * 10**9 // 1024)

    def attach(self, container: str, **options: Any) -> Iterator[bytes]:
        """Yield the output of the container in whole lines. Docker sends pieces as they are written, of two interleaved streams."""
        return _whole_lines(super().attach(container, demux=True, **options))

    def find(self, wanted: dict[str, str]) -> dict[str, dict[str, str]]:
        """Return the containers with these labels, running or not: all their labels, by id."""
        return {found["Id"]: found["Labels"] for found in self.containers(all=True, filters=_filters(wanted))}

    def discard(self, identifier: str, grace: int = 0) -> None:
        """Stop a container, with SIGKILL after `grace` seconds, and remove it, unless that has been done."""
        try:
            if grace:
                self.stop(identifier, timeout=grace)
            self.remove_container(identifier, v=True, force=True)
        except APIError as error:
            if error.status_code not in GONE:
                raise

    def lines(self, identifier: str, **streams: bool) -> list[str]:
        """Return the lines of a container's `stdout`, `stderr` or both. Their order is only correct within one stream."""
        return self.logs(identifier, **streams).decode(errors="replace").splitlines()

    def state(self, container: str | None) -> dict[str, Any]:
        """Return a container's state: `Running`, `ExitCode`, `OOMKilled`; empty if it is not on this engine."""
        try:
            return self.inspect_container(container)["State"] if container else {}
        except NotFound:
            return {}


class Swarm(Engine):
    """A client of an engine that manages a Swarm and runs tasks as its services."""

    labels: dict[str, str]

    def create_service(self, *arguments: Any, labels: dict[str, str], **options: Any) -> Any:
        """Also label the service with `self.labels`: DockerSwarmOperator only sets one label of its own."""
        return super().create_service(*arguments, labels=labels | self.labels, **options)

    def find(self, wanted: dict[str, str]) -> dict[str, dict[str, str]]:
        """Return the services with these labels: all their labels, by id."""
        return {found["ID"]: found["Spec"]["Labels"] for found in self.services(filters=_filters(wanted))}

    def discard(self, identifier: str, grace: int = 0) -> None:
        """Remove a service, which stops its container."""
        try:
            self.remove_service(identifier)
        except APIError as error:
            if error.status_code not in GONE:
                raise

    def lines(self, identifier: str, **streams: bool) -> list[str]:
        """Return the lines of a service's containers."""
        return b"".join(self.service_logs(identifier, **streams)).decode(errors="replace").splitlines()


def connect(settings: Settings) -> Engine:
    """Return the client of the engine for the runtimes `docker` and `swarm`. Raises AirflowException if it does not answer."""
    return (Swarm if settings.runtime == "swarm" else Engine)(settings.docker_url)


def labels(**values: object) -> dict[str, str]:
    """Return labels with this project's prefix."""
    return {f"windtunnel.{name}": str(value) for name, value in values.items()}


def _cause(error: BaseException) -> BaseException:
    """Return the original exception of a chain, which is usually the operating system's."""
    while error.__context__:
        error = error.__context__
    return error


def _whole_lines(pieces: Iterable[tuple[bytes | None, bytes | None]]) -> Iterator[bytes]:
    rest = [b"", b""]
    for both in pieces:
        for stream, piece in enumerate(both):
            *lines, rest[stream] = (rest[stream] + (piece or b"")).split(b"\n")
            yield from (line + b"\n" for line in lines)
    yield from (line + b"\n" for line in rest if line)


def _filters(wanted: dict[str, str]) -> dict[str, list[str]]:
    return {"label": [f"{name}={value}" for name, value in wanted.items()]}
