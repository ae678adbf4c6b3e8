"""TensorFlow Serving's model config file: which versions are loaded, and which of them users get.

A request that names no version is answered by the largest version of its model, so an unverified one must never be the largest. A
registered model has therefore two entries over one directory: `NAME` holds the champion, labelled `stable`, and loaded versions below
it; `NAME-standby` holds those above it, a challenger or what was rolled back.

https://www.tensorflow.org/tfx/serving/serving_config
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from serving.server import ServerError
from serving.tfserving.protos import ModelConfig, ModelServerConfig
from windtunnel.files import write_atomically

STABLE = "stable"


@dataclass(frozen=True)
class Entries:
    """What is loaded of a registered model: `users` in its own entry, `standby` in the other, and the version labelled `stable`."""

    users: frozenset[int] = frozenset()
    standby: frozenset[int] = frozenset()
    stable: int | None = None

    @property
    def versions(self) -> frozenset[int]:
        """All that is loaded."""
        return self.users | self.standby

    def without(self, numbers: frozenset[int]) -> "Entries":
        """The same without these versions."""
        return Entries(self.users - numbers, self.standby - numbers, None if self.stable in numbers else self.stable)

    @staticmethod
    def split(versions: frozenset[int], champion: int | None) -> "Entries":
        """Each version in exactly one entry, so that users get the champion; nothing without one."""
        users = frozenset(number for number in versions if champion is not None and number <= champion)
        return Entries(users, versions - users, champion)


def standby(name: str) -> str:
    """The name of a registered model's other entry."""
    return f"{name}-standby"


def to_message(entries: Mapping[str, Entries], models: Path) -> ModelServerConfig:
    """The configuration in TensorFlow Serving's form; `models` holds a directory a registered model, with one a version."""
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
    """The entries of every registered model in a file that `write_config` wrote; none where there is no file.

    Raises:
        ServerError: it is not a model config file.
    """
    try:
        message = text_format.Parse(file.read_text(), ModelServerConfig())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ServerError(f"{file} cannot be read ({error}): remove it and run `windtunnel reconcile`") from error
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
