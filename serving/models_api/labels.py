"""The names of a model's labels: words for the spoken commands, numbers for all others."""

import json

from serving.models_api.files import Files
from windtunnel.errors import WindtunnelError
from windtunnel.registered import RegisteredVersion

RECOGNIZER = "recognizer.json"


def words_of(files: Files, known: RegisteredVersion) -> list[str] | None:
    """Return a version's words in the order of its outputs; None if its labels have no names, or the file cannot be read."""
    try:
        if RECOGNIZER in files.digests(known):
            return [str(word) for word in json.loads(files.read(known, RECOGNIZER))["labels"]]
    except (WindtunnelError, ValueError, KeyError):
        pass
    return None


def called(label: int, words: list[str] | None) -> str:
    """Return the name of a label."""
    return words[label] if words and label < len(words) else str(label)
