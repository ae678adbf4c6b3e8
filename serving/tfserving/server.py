"""TensorFlow Serving behind the port: the embedded server, or the image tensorflow/serving, which speak the same protocol.

Published versions are in `models/NAME/N/`, and what is loaded of them is in `models.config`, which a server reads when it starts. The
file follows the server, and not the other way round: a version that could not be loaded never gets into it.
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serving.copies import digests, replace_copy
from serving.server import Outputs, Protocol, Served, Server, ServerError, Version, not_loaded
from serving.tfserving.client import Client
from serving.tfserving.config import STABLE, Entries, read_config, standby, to_message, write_config
from serving.tfserving.protos import ModelServerConfig
from windtunnel.locks import held
from windtunnel.settings import Settings

if TYPE_CHECKING:
    from serving.requests import Batch, Requests

SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.01
TURN_SECONDS = 300.0
# TensorFlow Serving looks at its directories every second; until then it may tell the end of an earlier life of a version.
STALE_SECONDS = 2.0


def models_directory(settings: Settings) -> Path:
    """Where published versions are: a directory a registered model, with one a version."""
    return settings.serving / "tfserving" / "models"


def config_file(settings: Settings) -> Path:
    """The model config file that the server is started with."""
    return settings.serving / "tfserving" / "models.config"


class TFServing(Server):
    """The server that the settings name, and the files it serves."""

    name = "tfserving"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models = models_directory(settings)
        self._config = config_file(settings)

    @cached_property
    def _client(self) -> Client:
        return Client(self._settings.tfserving_grpc, self._settings.tfserving_url)

    def publish(self, version: Version) -> None:
        """Copy a version's SavedModel beside the others, and have it loaded."""
        name, number = version.name, version.number
        saved_model, copy = version.directory / "saved_model", self._models / version.name / str(number)
        if not saved_model.is_dir():
            raise ServerError(f"{version} has no saved_model in {version.directory}: tfserving cannot serve it")
        with self._turn():
            entries = self._entries(name)
            changed = not copy.exists() or digests(copy) != digests(saved_model)
            gone = frozenset(self._errors(name, entries))  # the server does not try again what failed, as long as it is wanted
            if changed and number != entries.stable:  # users do not wait for a champion whose files are mended
                gone |= {number}
            if gone:
                self._change(name, entries.without(gone))
            if changed or number in gone:
                replace_copy(saved_model, copy)
            entries = self._entries(name)
            if number not in entries.versions:
                below = entries.stable is not None and number < entries.stable
                more = Entries(entries.users | {number}, entries.standby) if below else Entries(entries.users, entries.standby | {number})
                entries = replace(more, stable=entries.stable)
            self._change(name, entries)

    def ready(self, name: str, number: int) -> bool:
        """Whether a version is AVAILABLE in one of its model's two entries."""
        found = [status for entry in (name, standby(name)) if (status := self._client.statuses(entry).get(number))]
        if any(status.available for status in found):
            return True
        if errors := [status.error for status in found if status.error]:
            raise ServerError(f"{name} version {number} cannot be loaded by tfserving: {errors[0]}")
        return False

    def predict(self, name: str, images: np.ndarray, number: int | None = None, protocol: Protocol = "rest") -> Outputs:
        """Ask the entry that users ask, or with a number the one that has the version."""
        ask = self._client.predict_grpc if protocol == "grpc" else self._client.predict_rest
        return ask(self._entry(name, number), number, images)

    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """Over REST JSON in the row format, over gRPC tensors as bytes."""
        build = self._client.grpc_requests if protocol == "grpc" else self._client.rest_requests
        return build(self._entry(name, number), number, batches)

    def promote(self, name: str, number: int) -> None:
        """Move versions between the entries until users get this one; each is loaded where it goes before it is unloaded where it was."""
        with self._turn():
            entries = self._entries(name)
            if number not in entries.versions:
                raise not_loaded(self.name, name, number)
            wanted = Entries.split(entries.versions, number)
            if entries == wanted and self.served(name).champion == number:
                return
            both = Entries(entries.users | {number}, entries.standby | wanted.standby, entries.stable)
            for step in (both, Entries(wanted.users, both.standby, number), wanted):
                self._change(name, step)

    def withdraw(self, name: str, number: int) -> None:
        """Unload a version and remove its directory."""
        with self._turn():
            self._change(name, _without(name, self._entries(name), number))

    def served(self, name: str) -> Served:
        """What GetModelStatus says; the champion is the version that users get with and without the label `stable`."""
        users = self._available(name)
        champion = max(users, default=None)
        if champion is not None and self._client.labelled(name, STABLE) != champion:
            champion = None  # a release was cut off between the two
        return Served(users | self._available(standby(name)), champion)

    def published(self, name: str) -> frozenset[int]:
        """The versions that have a directory."""
        return frozenset(int(directory.name) for directory in (self._models / name).glob("*") if directory.name.isdecimal())

    def names(self) -> list[str]:
        """The registered models of which there are directories."""
        return sorted(entry.name for entry in self._models.iterdir()) if self._models.exists() else []

    def example(self, name: str) -> str:
        """Python turns the picture into JSON, curl asks."""
        pixels = 'numpy.array(Image.open("img/digit.png").convert("L").resize((28, 28), Image.BOX))[None, :, :, None].tolist()'
        script = f'import json, numpy; from PIL import Image; print(json.dumps({{"inputs": {pixels}}}))'
        return f"python -c '{script}' | curl -s -d @- {self._settings.published.tfserving_url}/v1/models/{name}:predict"

    def _available(self, name: str) -> frozenset[int]:
        return frozenset(number for number, status in self._client.statuses(name).items() if status.available)

    def _entry(self, name: str, number: int | None) -> str:
        """Which of a model's two entries has the version."""
        if number is None:
            return name
        for entry in (name, standby(name)):
            if number in self._available(entry):
                return entry
        raise not_loaded(self.name, name, number)

    def _entries(self, name: str) -> Entries:
        return read_config(self._config).get(name, Entries())

    def _turn(self) -> AbstractContextManager[None]:
        """One change of the configuration at a time."""
        return held(self._config.with_suffix(".lock"), f"the configuration {self._config}", TURN_SECONDS)

    def _change(self, name: str, entries: Entries) -> None:
        """Make the server serve these entries of a model, then write the file, then remove the directories that it does not name."""
        before = read_config(self._config)
        if before.get(name, Entries()) != entries or not self._serves(name, entries):
            try:
                self._load(name, entries, to_message(before | {name: entries}, self._models))
            except ServerError:
                with suppress(ServerError):  # the error that led here is the one to show
                    self._client.reload(to_message(before, self._models))
                self._tidy(name, before.get(name, Entries()))
                raise
        write_config(self._config, to_message(before | {name: entries}, self._models))
        self._tidy(name, entries)

    def _load(self, name: str, entries: Entries, config: ModelServerConfig) -> None:
        """Give the server a configuration and wait until it serves these entries of a model, and no other versions of it."""
        errors = self._errors(name, entries)
        try:
            self._client.reload(config)
        except ServerError:
            if not self._errors(name, entries):  # else they say it better
                raise
        start = time.monotonic()
        while not self._serves(name, entries):
            waited = time.monotonic() - start
            found = self._errors(name, entries)
            if found and (found != errors or waited > STALE_SECONDS):
                raise ServerError(f"{name} version {min(found)} cannot be loaded by tfserving: {found[min(found)]}")
            if waited > SETTLE_SECONDS:
                wanted = ", ".join(map(str, sorted(entries.versions)))
                raise ServerError(f"tfserving does not serve versions {wanted} of {name} after {SETTLE_SECONDS:g} s: see the server's log")
            time.sleep(POLL_SECONDS)

    def _serves(self, name: str, entries: Entries) -> bool:
        """Whether these versions are loaded and no others; one that still answers the requests it has is loaded."""
        for model, versions in ((name, entries.users), (standby(name), entries.standby)):
            statuses = self._client.statuses(model)
            loaded = {number for number, status in statuses.items() if not status.ended}
            if loaded != versions or not all(statuses[number].available for number in versions):
                return False
        return True

    def _errors(self, name: str, entries: Entries) -> dict[int, str]:
        """Why versions that should be loaded are not, as far as the server says."""
        wanted = ((name, entries.users), (standby(name), entries.standby))
        found = [
            (number, status.error)
            for model, versions in wanted
            for number, status in self._client.statuses(model).items()
            if number in versions
        ]
        return {number: error for number, error in found if error}

    def _tidy(self, name: str, entries: Entries) -> None:
        """Remove the directories of versions that are not loaded, and what a copy that was cut off has left."""
        for directory in (self._models / name).glob("*"):
            if directory.name not in map(str, entries.versions):
                shutil.rmtree(directory)
        with suppress(OSError):  # another version is in it
            (self._models / name).rmdir()


def _without(name: str, entries: Entries, number: int) -> Entries:
    if number != entries.stable:
        return entries.without(frozenset({number}))
    if others := sorted(entries.versions - {number}):
        raise ServerError(
            f"{name} version {number} is the champion on tfserving: promote another, such as {others[-1]}, before it is withdrawn"
        )
    return Entries()
