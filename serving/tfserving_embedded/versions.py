"""The versions of the models: which are in the base paths, which should be loaded, which are, and which are in use.

Availability comes first, as in TensorFlow Serving's AvailabilityPreservingPolicy: a new version is loaded before an old one is
unloaded, an old one stays while a new one cannot be loaded, and nothing is unloaded under a request.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.config import model_server_config_pb2
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig

from serving.tfserving_embedded.config_files import local_path
from serving.tfserving_embedded.runtime.library import Library, Shared
from serving.tfserving_embedded.runtime.model import Model
from serving.tfserving_embedded.serving_error import ServingError, not_found

logger = logging.getLogger(__name__)

State = get_model_status_pb2.ModelVersionStatus.State
"""START, LOADING, AVAILABLE, UNLOADING and END; `State.Name(state)` returns the name."""


@dataclass
class Version:
    """A version of a served model. It ends only once; if it is wanted again, a new object replaces it."""

    number: int
    directory: Path
    state: int = State.START
    error: ServingError | None = None
    aspired: bool = True
    requests: int = 0
    shared: Shared | None = None


@dataclass
class ServedModel:
    """A model of the configuration, and its versions that this process has known."""

    name: str
    base_path: Path | None
    policy: FileSystemStoragePathSourceConfig.ServableVersionPolicy
    versions: dict[int, Version] = field(default_factory=dict)
    found: bool = True

    def available(self) -> list[Version]:
        """The versions that answer, the largest first."""
        return sorted((v for v in self.versions.values() if v.state == State.AVAILABLE), key=lambda v: v.number, reverse=True)

    def errors(self) -> dict[int, ServingError]:
        """Why versions that should be loaded are not, by number."""
        return {version.number: version.error for version in self.versions.values() if version.aspired and version.error}


@dataclass(frozen=True)
class LoadOptions:
    """When to poll base paths and retry loads; the fields are the command line's flags.

    Attributes:
        file_system_poll_wait_seconds: interval between polls of the base paths; 0 to poll only when configured, negative never.
        max_num_load_retries: retries after a failed load.
        load_retry_interval_micros: pause before each retry; negative for none.
    """

    file_system_poll_wait_seconds: float = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000


class Versions:
    """Moves the loaded versions towards what the configuration and the base paths say. All of it runs on the loop."""

    def __init__(self, library: Library, options: LoadOptions) -> None:
        """Initialise without models."""
        self._library = library
        self._options = options
        self._models: dict[str, ServedModel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._polling = asyncio.Lock()

    def model(self, name: str) -> ServedModel | None:
        """Return a model that is, or was, configured."""
        return self._models.get(name)

    @contextlib.contextmanager
    def use(self, name: str, number: int | None) -> Iterator[tuple[int, Model]]:
        """Keep a version loaded during a request: the one with this number, or the largest that answers.

        Raises:
            ServingError: NOT_FOUND.
        """
        model, version = self._find(name, number)
        assert version.shared is not None
        version.requests += 1
        try:
            yield version.number, version.shared.model
        finally:
            version.requests -= 1
            if version.requests == 0 and version.state == State.UNLOADING:
                self._end(model, version)

    def _find(self, name: str, number: int | None) -> tuple[ServedModel, Version]:
        model = self._models.get(name)
        available = model.available() if model else []
        if number is not None:
            available = [version for version in available if version.number == number]
        if model is None or not available:
            asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise not_found(f"Servable not found for request: {asked}")
        return model, available[0]

    async def configure(self, configs: Mapping[str, model_server_config_pb2.ModelConfig]) -> set[str]:
        """Serve exactly these models from now on.

        Returns:
            The names of the models that were not served before.
        """
        new = {name for name in configs if name not in self._models or self._models[name].base_path is None}
        for name, model in self._models.items():
            if name not in configs:
                model.base_path = None
        for name, config in configs.items():
            model = self._models.setdefault(name, ServedModel(name, None, config.model_version_policy))
            model.base_path, model.policy, model.found = local_path(config.base_path), config.model_version_policy, True
        self._changed.set()
        if self._options.file_system_poll_wait_seconds >= 0:
            await self.poll()
        return new

    async def poll(self) -> None:
        """Poll the base paths once, and start loading and unloading; all loads start before any unload."""
        async with self._polling:  # polls must be applied in order
            paths = {model.base_path for model in self._models.values() if model.base_path}
            found = await asyncio.to_thread(lambda: {path: _list_versions(path) for path in paths})
            models = [model for model in self._models.values() if model.base_path is None or model.base_path in found]
            for model in models:
                self._aspire(model, found[model.base_path] if model.base_path else {})
            for model in models:
                self._unload_surplus(model)

    async def keep_polling(self) -> None:
        """Poll the base paths forever."""
        while self._options.file_system_poll_wait_seconds > 0:
            await asyncio.sleep(self._options.file_system_poll_wait_seconds)
            await self.poll()

    async def wait_until_settled(self, names: set[str], patient: bool) -> None:
        """Wait until each of these models has a version that answers, or cannot get one.

        Args:
            names: the models.
            patient: wait also for a model without versions, and for a load that will be retried.

        Raises:
            ServingError: UNKNOWN: some have versions, none of which could be loaded; or they were removed in the meantime.
        """
        while True:
            self._changed.clear()
            models = [self._models[name] for name in names]
            if all(_settled(model, patient) for model in models):
                break
            await self._changed.wait()
        failed = [m for m in models if not m.available() and (m.base_path is None or m.errors())]
        if failed:
            reasons = "".join(map(_failure, failed))
            raise ServingError(grpc.StatusCode.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{reasons}}}")

    def _aspire(self, model: ServedModel, directories: Mapping[int, Path] | None) -> None:
        """Start loading what should be loaded and is not."""
        if directories is None:
            if model.found:
                logger.warning("Could not find base path %s for servable %s", model.base_path, model.name)
            model.found = False
            return  # the file system may come back, so loaded versions stay
        if model.base_path and not directories and model.found:
            logger.warning("No versions of servable %s found under base path %s", model.name, model.base_path)
        model.found = bool(directories)
        wanted = _select(directories, model.policy)
        for number in sorted(wanted, reverse=True):
            known = model.versions.get(number)
            if known is not None and known.state == State.UNLOADING:
                known.state = State.AVAILABLE
            elif known is None or (known.state == State.END and (known.error is None or not known.aspired)):
                self._begin(model, Version(number, wanted[number]))
        for number, version in model.versions.items():
            version.aspired = number in wanted

    def _begin(self, model: ServedModel, version: Version) -> None:
        model.versions[version.number] = version
        version.shared = self._library.share(version.directory)
        if version.shared is not None:
            self._become_available(model, version)
        else:
            task = asyncio.ensure_future(self._load(model, version))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _load(self, model: ServedModel, version: Version) -> None:
        version.state = State.LOADING
        for attempt in range(self._options.max_num_load_retries + 1):
            if attempt:
                await asyncio.sleep(max(0, self._options.load_retry_interval_micros) / 1e6)
            if not version.aspired:
                break
            try:
                version.shared = await self._library.hold(version.directory)
            except Exception as error:  # any error must end the version, not the server
                version.error = error if isinstance(error, ServingError) else ServingError(grpc.StatusCode.INTERNAL, repr(error))
                logger.warning("Loading servable: {name: %s version: %d} failed: %s", model.name, version.number, version.error)
                self._changed.set()
            else:
                self._become_available(model, version)
                self._unload_surplus(model)
                return
        version.state = State.END
        self._changed.set()

    def _become_available(self, model: ServedModel, version: Version) -> None:
        version.state, version.error = State.AVAILABLE, None
        logger.info("Successfully loaded servable version {name: %s version: %d}", model.name, version.number)
        self._changed.set()

    def _unload_surplus(self, model: ServedModel) -> None:
        """Unload surplus versions, unless no version that should be loaded answers yet."""
        aspired = [version for version in model.versions.values() if version.aspired]
        if aspired and not any(version.state == State.AVAILABLE for version in aspired):
            return
        for version in model.available():
            if not version.aspired:
                version.state = State.UNLOADING
                if version.requests == 0:
                    self._end(model, version)

    def _end(self, model: ServedModel, version: Version) -> None:
        assert version.shared is not None
        version.state = State.END
        self._library.release(version.shared)
        version.shared = None
        logger.info("Done unloading servable version {name: %s version: %d}", model.name, version.number)


def _settled(model: ServedModel, patient: bool) -> bool:
    """Return whether a model has all it can get; see `Versions.wait_until_settled`."""
    if model.available() or model.base_path is None:
        return True
    loading = [version for version in model.versions.values() if version.state < State.AVAILABLE]
    if patient:
        return not loading and bool(model.errors())
    return all(version.error for version in loading)


def _failure(model: ServedModel) -> str:
    """Return why a model has no version that answers."""
    if model.base_path is None:
        return f"{{name: {model.name} was removed by another configuration}}, "
    errors = model.errors().items()
    return "".join(f"{{name: {model.name} version: {number} due to error: {e.code.name}: {e.message}}}, " for number, e in errors)


def _list_versions(base_path: Path) -> dict[int, Path] | None:
    """Return the version directories of a base path, by number; None if it cannot be read. Of two with equal numbers, the last by name."""
    try:
        directories = sorted(entry for entry in base_path.iterdir() if re.fullmatch("-?[0-9]+", entry.name) and entry.is_dir())
    except OSError:
        return None
    return {number: entry for entry in directories if -(2**63) <= (number := int(entry.name)) < 2**63}


def _select(directories: Mapping[int, Path], policy: FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> dict[int, Path]:
    """Return the versions of a base path that a policy selects; by default the latest."""
    match policy.WhichOneof("policy_choice"):
        case "all":
            numbers = set(directories)
        case "specific":
            numbers = set(directories) & set(policy.specific.versions)
        case _:
            numbers = set(sorted(directories)[-max(1, policy.latest.num_versions) :])
    return {number: directories[number] for number in numbers}
