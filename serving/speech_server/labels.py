"""Words in the old protocol: eight words, each with a number, whatever the words of the model are."""

import functools
from typing import NamedTuple

import numpy as np

from serving.speech_server.protos.dlserver_pb2 import Label
from windtunnel.vocabulary import WORDS

LABELS = {word: Label.Value(word.upper()) for word in WORDS}


class Shared(NamedTuple):
    """The words that a vocabulary shares with the old protocol: their indices in the vocabulary, int (N), and their N labels."""

    places: np.ndarray
    labels: tuple[Label, ...]


@functools.cache
def shared(words: tuple[str, ...]) -> Shared | None:
    """Return what a vocabulary shares with the old protocol; None if that is nothing."""
    both = [word for word in words if word in LABELS]
    return Shared(np.array([words.index(word) for word in both]), tuple(LABELS[word] for word in both)) if both else None
