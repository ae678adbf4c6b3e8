"""Words as the old protocol has them: eight, each with a number, whatever the words of the model."""

import functools
from typing import NamedTuple

import numpy as np

from serving.speech.protos.dlserver_pb2 import Label
from windtunnel.vocabulary import WORDS

LABELS = {word: Label.Value(word.upper()) for word in WORDS}


class Shared(NamedTuple):
    """The words of a vocabulary that the old protocol has too: their places in the vocabulary, int (N), and their labels, N of them."""

    places: np.ndarray
    labels: tuple[Label, ...]


@functools.cache
def shared(words: tuple[str, ...]) -> Shared | None:
    """What a vocabulary has in common with the old protocol; None where that is nothing."""
    both = [word for word in words if word in LABELS]
    return Shared(np.array([words.index(word) for word in both]), tuple(LABELS[word] for word in both)) if both else None
