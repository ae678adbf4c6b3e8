"""The backend of TensorFlow Serving: for the embedded server and for the image tensorflow/serving, which use the same protocol.

Published versions are in `models/NAME/N/`. `models.config` says which of them are loaded; a server reads it when it starts. The file is
written after the server has loaded a configuration, not before, so a version that could not be loaded never gets into the file.

For each registered model the file has up to two entries; `serving/backends/tfserving/model_config.py` explains why. The states of its
`Entries`, with versions 1, 2 and 3 as an example:

| state | users | standby | stable | the answer to a request without a version |
|---|---|---|---|---|
| nothing loaded | | | | none: an error |
| no champion | | 1 2 3 | | none: an error |
| champion 1 | 1 | 2 3 | 1 | 1 |
| 3 loaded | 1 3 | 2 3 | 1 | 3; 1 with the label `stable`: `served` names no champion |
| 3 labelled | 1 2 3 | 2 3 | 3 | 3 |
| champion 3 | 1 2 3 | | 3 | 3 |
| champion lost | 1 2 | | | 2; none with the label: `served` names no champion |

- `publish(N)`: versions that failed to load are removed, and so is N if its files have changed and it is not the champion. Then N is added
  to `users` if it is below the champion, otherwise to `standby`. If the champion itself failed to load, *champion 3* becomes
  *champion lost*.
- `promote(N)`, from every state in which N is loaded: the three steps of `Entries.promotion`. From *champion 1* to 3 they are *3 loaded*,
  *3 labelled* and *champion 3*; from *champion 3* to 1 *3 labelled* and *champion 1*, which the third step does not change.
- `withdraw(N)`: N is removed. The champion can only be the last version to be removed, which leads to *nothing loaded*.

Each transition is one call of `_change`. An interrupted promotion stays in the state that it has reached; the next promotion starts there.
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serving.backends.base import Outputs, Protocol, Served, Server, ServerError, Version, not_loaded, served_model
from serving.backends.tfserving.client import Client
from serving.backends.tfserving.declaration import TFServingSettings
from serving.backends.tfserving.model_config import STABLE, Entries, read_config, standby, to_message, write_config
from serving.tfserving_protos import ModelServerConfig
from windtunnel.files import digests, replace_copy
from windtunnel.locks import held
from windtunnel.settings import Settings
from windtunnel.waiting import wait_until

if TYPE_CHECKING:
    from serving.load.requests import Batch, Requests

SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.01
TURN_SECONDS = 300.0
# TensorFlow Serving polls its directories every second; until then it may report the end of an earlier life of a version.
STALE_SECONDS = 2.0


def models_directory(settings: Settings) -> Path:
    """Return the directory of published versions: a subdirectory per registered model, with one per version."""
    return settings.serving / "tfserving" / "models"


def config_file(settings: Settings) -> Path:
    """Return the model config file that the server starts with."""
    return settings.serving / "tfserving" / "models.config"


class TFServing(Server):
    """The server that the settings name, and the files that it serves."""

    name = "tfserving"

    def __init__(self, settings: Settings) -> None:
        self._addresses = settings.server(TFServingSettings)
        self._models = models_directory(settings)
        self._config = config_file(settings)

    @cached_property
    def _client(self) -> Client:
        return Client(self._addresses.grpc, self._addresses.address)

    def publish(self, version: Version) -> None:
        """Copy a version's SavedModel next to the others, and have the server load it."""
        name, number = version.name, version.number
        saved_model, copy = version.directory / "saved_model", self._models / version.name / str(number)
        if not saved_model.is_dir():
            raise ServerError(f"tfserving cannot serve {version}: there is no saved_model in {version.directory}. Export it again")
        with self._turn():
            entries = self._entries(name)
            changed = not copy.exists() or digests(copy) != digests(saved_model)
            gone = frozenset(self._errors(name, entries))  # the server does not retry a failed version while it is configured
            if changed and number != entries.stable:  # replacing the champion's files must not interrupt users
                gone |= {number}
            if gone:
                entries = entries.without(gone)
                self._change(name, entries)
            if changed or number in gone:
                replace_copy(saved_model, copy)
            self._change(name, entries.with_published(number))

    def ready(self, name: str, number: int) -> bool:
        """Return whether a version is AVAILABLE in one of its model's two entries."""
        found = [status for entry in (name, standby(name)) if (status := self._client.statuses(entry).get(number))]
        if any(status.available for status in found):
            return True
        if errors := [status.error for status in found if status.error]:
            raise ServerError(f"tfserving cannot load {name} version {number}: {errors[0]}")
        return False

    def predict(self, name: str, samples: np.ndarray, number: int | None = None, protocol: Protocol = "rest") -> Outputs:
        """Send the samples to the entry that users get or, with a number, to the entry that holds the version."""
        ask = self._client.predict_grpc if protocol == "grpc" else self._client.predict_rest
        return ask(self._entry(name, number), number, samples, served_model(name))

    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """Return requests: over REST, JSON in the row format; over gRPC, tensors as bytes."""
        build = self._client.grpc_requests if protocol == "grpc" else self._client.rest_requests
        return build(self._entry(name, number), number, batches, served_model(name))

    def promote(self, name: str, number: int) -> None:
        """Move versions between the entries until users get this one."""
        with self._turn():
            entries = self._entries(name)
            if number not in entries.versions:
                raise not_loaded(self.name, name, number)
            steps = entries.promotion(number)
            if entries == steps[-1] and self.served(name).champion == number:
                return
            for step in steps:
                self._change(name, step)

    def withdraw(self, name: str, number: int) -> None:
        """Unload a version and remove its directory; the champion only if it is the last version."""
        with self._turn():
            entries = self._entries(name)
            others = sorted(entries.versions - {number})
            if number == entries.stable and others:
                raise ServerError(
                    f"{name} version {number} is the champion on tfserving. Promote another version, such as {others[-1]}, then withdraw it"
                )
            self._change(name, entries.without(frozenset({number})))

    def served(self, name: str) -> Served:
        """Return what GetModelStatus reports; the champion is the version that users get both with and without the label `stable`."""
        users = self._available(name)
        champion = max(users, default=None)
        if champion is not None and self._client.labelled(name, STABLE) != champion:
            champion = None  # a promotion was interrupted between the two
        return Served(users | self._available(standby(name)), champion)

    def published(self, name: str) -> frozenset[int]:
        """Return the versions that have a directory."""
        return frozenset(int(directory.name) for directory in (self._models / name).glob("*") if directory.name.isdecimal())

    def names(self) -> list[str]:
        """Return the registered models that have a directory."""
        return sorted(entry.name for entry in self._models.iterdir()) if self._models.exists() else []

    def example(self, name: str) -> str:
        """Return lines in which Python converts the picture, or the array, to JSON and curl sends it."""
        model_input = served_model(name).input
        if model_input.codec == "image":
            height, width, channels = model_input.shape
            mode, axes = ("L", "[None, :, :, None]") if channels == 1 else ("RGB", "[None]")
            lines = [
                "import json, numpy; from PIL.Image import BOX, open",
                f'image = open("img/digit.png").convert("{mode}").resize(({width}, {height}), BOX)',
                f"inputs = numpy.array(image){axes}.tolist()",
            ]
        else:
            lines = ["import json, numpy", 'inputs = numpy.load("sample.npy")[None].tolist()']
        lines.append('print(json.dumps({"inputs": inputs}))')
        names = "abcd"[: len(lines)]
        script = "; ".join(f"${each}" for each in names)
        return (
            "".join(f"{each}='{line}'\n" for each, line in zip(names, lines, strict=True)) + f'python -c "{script}" | curl -s -d @- \\\n'
            f"  {self._addresses.published.address}/v1/models/{name}:predict"
        )

    def _available(self, name: str) -> frozenset[int]:
        return frozenset(number for number, status in self._client.statuses(name).items() if status.available)

    def _entry(self, name: str, number: int | None) -> str:
        """Return the one of a model's two entries that holds the version."""
        if number is None:
            return name
        for entry in (name, standby(name)):
            if number in self._available(entry):
                return entry
        raise not_loaded(self.name, name, number)

    def _entries(self, name: str) -> Entries:
        return read_config(self._config).get(name, Entries())

    def _turn(self) -> AbstractContextManager[None]:
        """Allow one change of the configuration at a time."""
        return held(self._config.with_suffix(".lock"), f"the configuration {self._config}", TURN_SECONDS)

    def _change(self, name: str, entries: Entries) -> None:
        """Make the server serve these entries of a model, then write the file, then remove the directories that it does not name."""
        known = read_config(self._config)
        before = known.get(name, Entries())
        config = to_message(known | {name: entries}, self._models)
        if before != entries or not self._serves(name, entries):
            try:
                self._load(name, entries, config)
            except ServerError:
                with suppress(ServerError):  # report the original error
                    self._client.reload(to_message(known, self._models))
                self._tidy(name, before)
                raise
        write_config(self._config, config)
        self._tidy(name, entries)

    def _load(self, name: str, entries: Entries, config: ModelServerConfig) -> None:
        """Send the server a configuration, and wait until it serves exactly these entries of a model."""
        errors = self._errors(name, entries)
        try:
            self._client.reload(config)
        except ServerError:
            if not self._errors(name, entries):  # otherwise they explain the failure better
                raise
        stale = time.monotonic() + STALE_SECONDS

        def settled() -> bool:
            if self._serves(name, entries):
                return True
            found = self._errors(name, entries)
            if found and (found != errors or time.monotonic() > stale):
                raise ServerError(f"tfserving cannot load {name} version {min(found)}: {found[min(found)]}")
            return False

        if not wait_until(settled, SETTLE_SECONDS, POLL_SECONDS):
            wanted = ", ".join(map(str, sorted(entries.versions)))
            raise ServerError(f"tfserving does not serve versions {wanted} of {name} after {SETTLE_SECONDS:g} s. See the server's log")

    def _serves(self, name: str, entries: Entries) -> bool:
        """Return whether exactly these versions are loaded; a version that still answers its last requests counts as loaded."""
        for entry, versions in entries.named(name):
            statuses = self._client.statuses(entry)
            loaded = {number for number, status in statuses.items() if not status.ended}
            if loaded != versions or not all(statuses[number].available for number in versions):
                return False
        return True

    def _errors(self, name: str, entries: Entries) -> dict[int, str]:
        """Return why versions that should be loaded are not, as far as the server reports it."""
        return {
            number: status.error
            for entry, versions in entries.named(name)
            for number, status in self._client.statuses(entry).items()
            if number in versions and status.error
        }

    def _tidy(self, name: str, entries: Entries) -> None:
        """Remove the directories of versions that are not loaded, and leftovers of an interrupted copy."""
        for directory in (self._models / name).glob("*"):
            if directory.name not in map(str, entries.versions):
                shutil.rmtree(directory)
        with suppress(OSError):  # the directory still holds another version
            (self._models / name).rmdir()
