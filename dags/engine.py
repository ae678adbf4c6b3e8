"""The API of the Docker engine that tasks run on, and the labels by which what they started there is found again."""

from collections.abc import Iterable, Iterator
from typing import Any

from airflow.sdk.exceptions import AirflowException
from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from windtunnel.settings import Settings

CONNECT_SECONDS = 30
ANSWER_SECONDS = 60
GONE = (404, 409)  # the engine knows it no more, or is removing it for somebody else


class Engine(APIClient):
    """An engine (https://docs.docker.com/engine/api/v1.41/), whose containers tasks run in."""

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
        """Limit the CPUs too: DockerOperator makes of `cpus` a weight against other containers alone."""
        return super().create_host_config(**options, nano_cpus=options["cpu_shares"] * 10**9 // 1024)

    def attach(self, container: str, **options: Any) -> Iterator[bytes]:
        """What the container prints, in whole lines: Docker hands on each piece as it is written, and the two streams in turns."""
        return _whole_lines(super().attach(container, demux=True, **options))

    def find(self, wanted: dict[str, str]) -> dict[str, dict[str, str]]:
        """What carries these labels, running or not: all its labels, by its id."""
        return {found["Id"]: found["Labels"] for found in self.containers(all=True, filters=_filters(wanted))}

    def discard(self, identifier: str, grace: int = 0) -> None:
        """Stop a container, after `grace` seconds by force, and remove it, if that has not been done."""
        try:
            if grace:
                self.stop(identifier, timeout=grace)
            self.remove_container(identifier, v=True, force=True)
        except APIError as error:
            if error.status_code not in GONE:
                raise

    def lines(self, identifier: str, **streams: bool) -> list[str]:
        """What a container printed on `stdout`, `stderr` or both: only lines of one stream come in the order they were printed in."""
        return self.logs(identifier, **streams).decode(errors="replace").splitlines()

    def state(self, container: str | None) -> dict[str, Any]:
        """Whether a container is `Running`, its `ExitCode`, whether it was `OOMKilled`; nothing of one that is not on this engine."""
        try:
            return self.inspect_container(container)["State"] if container else {}
        except NotFound:
            return {}


class Swarm(Engine):
    """An engine that manages a Swarm, whose services tasks run as."""

    labels: dict[str, str]

    def create_service(self, *arguments: Any, labels: dict[str, str], **options: Any) -> Any:
        """Label the service with `self.labels` too: DockerSwarmOperator knows a single label of its own."""
        return super().create_service(*arguments, labels=labels | self.labels, **options)

    def find(self, wanted: dict[str, str]) -> dict[str, dict[str, str]]:
        """The services that carry these labels: all their labels, by their id."""
        return {found["ID"]: found["Spec"]["Labels"] for found in self.services(filters=_filters(wanted))}

    def discard(self, identifier: str, grace: int = 0) -> None:
        """Remove a service, which stops its container."""
        try:
            self.remove_service(identifier)
        except APIError as error:
            if error.status_code not in GONE:
                raise

    def lines(self, identifier: str, **streams: bool) -> list[str]:
        """The same of a service's containers."""
        return b"".join(self.service_logs(identifier, **streams)).decode(errors="replace").splitlines()


def connect(settings: Settings) -> Engine:
    """The engine that tasks run on, for the runtimes `docker` and `swarm`. Raises AirflowException where none answers."""
    return (Swarm if settings.runtime == "swarm" else Engine)(settings.docker_url)


def labels(**values: object) -> dict[str, str]:
    """Labels of this project's kind."""
    return {f"windtunnel.{name}": str(value) for name, value in values.items()}


def _cause(error: BaseException) -> BaseException:
    """What the system said, below what each library made of it."""
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
