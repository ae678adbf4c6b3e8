"""The names of a model's labels: words for the spoken commands and for clothes, numbers for all others."""

import json

from serving.models_api.files import Files
from serving.release.release import local_copy
from windtunnel.data.datasets import class_names
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import MANIFEST
from windtunnel.registered import RegisteredVersion
from windtunnel.settings import Settings

RECOGNIZER = "recognizer.json"


def words_of(files: Files, known: RegisteredVersion) -> list[str] | None:
    """Return a version's words in the order of its outputs; None if its labels have no names, or the file cannot be read."""
    try:
        if RECOGNIZER in files.digests(known):
            return [str(word) for word in json.loads(files.read(known, RECOGNIZER))["labels"]]
    except (WindtunnelError, ValueError, KeyError):
        pass
    return class_names(known.dataset)


def words_served(settings: Settings, name: str, number: int) -> list[str] | None:
    """Return the same for a version that is served, whether or not the registry answers."""
    try:
        return class_names(json.loads((local_copy(settings, name, number) / MANIFEST).read_text())["dataset"]["name"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def called(label: int, words: list[str] | None) -> str:
    """Return the name of a label."""
    return words[label] if words and label < len(words) else str(label)
