"""TensorFlow Serving's model config file: which versions are loaded, and which of them users get.

A request that names no version is answered by a model's largest version, so an unverified version must never be the largest. Therefore a
registered model has two entries over one directory: `NAME` holds the champion, labelled `stable`, and loaded versions below it;
`NAME-standby` holds the versions above it: a challenger, or a version that was rolled back.

https://www.tensorflow.org/tfx/serving/serving_config
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf import text_format

from serving.backends.base import ServerError
from serving.tfserving_protos import ModelConfig, ModelServerConfig
from windtunnel.files import write_atomically

STABLE = "stable"


@dataclass(frozen=True)
class Entries:
    """The loaded versions of a registered model: `users` in its own entry, `standby` in the other, and the version labelled `stable`."""

    users: frozenset[int] = frozenset()
    standby: frozenset[int] = frozenset()
    stable: int | None = None

    @property
    def versions(self) -> frozenset[int]:
        """Return all loaded versions."""
        return self.users | self.standby

    def named(self, name: str) -> tuple[tuple[str, frozenset[int]], tuple[str, frozenset[int]]]:
        """Return the two entries of the registered model `name`: each entry's name in the file, and its versions."""
        return (name, self.users), (standby(name), self.standby)

    def with_published(self, number: int) -> "Entries":
        """Add a version that no user gets: to `users` if it is below the champion, otherwise to `standby`."""
        if number in self.versions:
            return self
        if self.stable is not None and number < self.stable:
            return replace(self, users=self.users | {number})
        return replace(self, standby=self.standby | {number})

    def promotion(self, number: int) -> tuple["Entries", "Entries", "Entries"]:
        """Return the steps that make a loaded version the champion: each version is loaded in its new entry before it leaves the old."""
        wanted = Entries.split(self.versions, number)
        loaded = replace(self, users=self.users | {number}, standby=self.standby | wanted.standby)
        labelled = replace(wanted, standby=loaded.standby)
        return loaded, labelled, wanted

    def without(self, numbers: frozenset[int]) -> "Entries":
        """Remove these versions."""
        return Entries(self.users - numbers, self.standby - numbers, None if self.stable in numbers else self.stable)

    @staticmethod
    def split(versions: frozenset[int], champion: int) -> "Entries":
        """Put each version into exactly one entry, so that users get the champion."""
        users = frozenset(number for number in versions if number <= champion)
        return Entries(users, versions - users, champion)


def standby(name: str) -> str:
    """Return the name of a registered model's other entry."""
    return f"{name}-standby"


def to_message(entries: Mapping[str, Entries], models: Path) -> ModelServerConfig:
    """Return the configuration as TensorFlow Serving's message; `models` is the directory with a subdirectory per registered model."""
    message = ModelServerConfig()
    message.model_config_list.SetInParent()
    for name, entry in sorted(entries.items()):
        if entry.users:
            labels = {} if entry.stable is None else {STABLE: entry.stable}
            message.model_config_list.config.append(_model(name, models / name, entry.users, labels))
        if entry.standby:
            message.model_config_list.config.append(_model(standby(name), models / name, entry.standby, {}))
    return message


def _model(name: str, directory: Path, versions: frozenset[int], labels: dict[str, int]) -> ModelConfig:
    model = ModelConfig(name=name, base_path=str(directory), model_platform="tensorflow", version_labels=labels)
    model.model_version_policy.specific.versions.extend(sorted(versions))
    return model


def write_config(file: Path, message: ModelServerConfig) -> None:
    """Write the file that a server reads when it starts, atomically."""
    write_atomically(file, text_format.MessageToString(message).encode())


def read_config(file: Path) -> dict[str, Entries]:
    """Return the entries of every registered model in a file that `write_config` wrote; empty if there is no file.

    Raises:
        ServerError: it is not a model config file.
    """
    try:
        message = text_format.Parse(file.read_text(), ModelServerConfig())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ServerError(f"{file} cannot be read ({error}). Remove it and run `windtunnel reconcile`") from error
    models = {model.name: model for model in message.model_config_list.config}
    versions = {name: frozenset(model.model_version_policy.specific.versions) for name, model in models.items()}
    return {
        name: Entries(
            versions.get(name, frozenset()),
            versions.get(standby(name), frozenset()),
            models[name].version_labels.get(STABLE) if name in models else None,
        )
        for name in {Path(model.base_path).name for model in models.values()}
    }
