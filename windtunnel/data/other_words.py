"""Other words: recordings of words that are not commands, with which a recogniser learns to reject, and is evaluated.

A synthesiser speaks some of them; people's recordings are used if they are on the data search path. Words of the recogniser's own
vocabulary are left out. Some words are never used for training: they show how the recogniser treats words that it has not heard before.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from windtunnel.data.datasets import SPEECH, find, locate_among
from windtunnel.data.download import DownloadError
from windtunnel.data.recordings import DIGITS, RECORDINGS, Archive, Given, Recordings, Synthetic, as_speech_commands

_log = logging.getLogger(__name__)

UNHEARD = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "off", "on", "sheila", "tree", "wow")
"""The words that are never used for training: the Speech Commands' other words without the digits."""

SPOKEN = (
    # similar to the eight commands
    *("town", "gown", "done", "dawn", "brown", "noun", "doubt", "dumb", "dust", "dark", "tongue", "crown"),
    *("bow", "toe", "goat", "ghost", "gold", "gone", "god", "got", "good", "give"),
    *("lift", "laughed", "let", "loft", "less", "leg", "lead", "lap"),
    *("not", "new", "now", "nothing", "near", "nose", "note", "north", "low", "slow", "row"),
    *("love", "light", "night", "white", "ride", "rice", "wide", "rise", "rain", "red", "run", "ring"),
    *("step", "stock", "top", "shop", "star", "spot", "store", "stay", "stand", "sleep", "strong"),
    *("cup", "us", "but", "of", "what", "app", "apple", "hope", "hop", "ups", "open", "under"),
    *("yet", "yeah", "guess", "yell", "yesterday", "chess", "dress", "mess", "years"),
    # not similar
    *("again", "hello", "goodbye", "please", "thanks", "water", "music", "play", "pause", "volume", "lamp", "door", "window", "table"),
    *("chair", "green", "blue", "black", "yellow", "orange", "mother", "father", "sister", "brother", "coffee", "kitchen", "number"),
    *("letter", "morning", "evening", "hand", "foot", "head", "eye", "school", "garden", "winter", "summer"),
)
EACH = 20  # words that each voice speaks

SOURCES: Mapping[str, Archive] = {
    "spoken_words": Synthetic(
        title="other words by synthetic voices",
        folders=(SPEECH, "spoken_words"),
        file="spoken_words.zip",
        manifest=as_speech_commands("other words by synthetic voices", SPOKEN),
        each=EACH,
    ),
    "free_spoken_digits": RECORDINGS["free_spoken_digits"],
    # Warden, arXiv 1804.03209: the words that TensorFlow's small archive leaves out
    "other_words": Given(
        title="Other words of the Speech Commands",
        folders=(SPEECH, "other_words"),
        file="other_words.zip",
        manifest=as_speech_commands("Other words of the Speech Commands", sorted((*UNHEARD, *DIGITS))),
    ),
}
"""The first is always used: if it is not found, it is synthesised. The others are used if they are found."""


@dataclass(frozen=True, eq=False)
class Others:
    """Clips of other words, int16 (N,16000): `train`, `validation` to calibrate probabilities, and `test` by data set title.

    No speaker in `train` is in the other parts, and no word of UNHEARD is in `train` or `validation`. `fingerprints` are the
    fingerprints of the data sets, by name.
    """

    train: np.ndarray
    validation: np.ndarray
    test: Mapping[str, np.ndarray]
    fingerprints: Mapping[str, str]


def locate_others(vocabulary: Collection[str], say: Callable[[str], None] = _log.info) -> Others:
    """Load the clips of words that are not in a vocabulary, from the synthesiser and from every data set that is found.

    Args:
        vocabulary: the recogniser's words.
        say: called with messages about which data sets are used.

    Raises:
        WindtunnelError: a data set has wrong content, or the synthesiser does not work.
    """
    spoken, *recorded = SOURCES
    found = [_spoken(spoken, say), *(locate_among(SOURCES, name, say) for name in recorded if find(SOURCES[name]) is not None)]
    parts = {name: [_clips(each, vocabulary, name) for each in found] for name in ("train", "validation")}
    test = {each.title: clips for each in found if len(clips := _clips(each, vocabulary, "test"))}
    return Others(
        train=np.concatenate(parts["train"]),
        validation=np.concatenate(parts["validation"]),
        test=test,
        fingerprints={each.name: each.fingerprint for each in found},
    )


def _spoken(name: str, say: Callable[[str], None]) -> Recordings:
    """Return the synthesised recordings. They are kept on disk if there is a writable folder."""
    try:
        return locate_among(SOURCES, name, say)
    except DownloadError as error:
        say(f"{SOURCES[name].title} are synthesised for this run only: {error}")
        with TemporaryDirectory() as place:
            SOURCES[name].get(Path(place))
            return SOURCES[name].read(name, Path(place))


def _clips(recordings: Recordings, vocabulary: Collection[str], part: str) -> np.ndarray:
    words = np.array(recordings.words)[recordings.labels]
    parts = recordings.parts
    if recordings.name == "other_words":  # too few speakers to split by speaker: split by word, and use none for training
        parts = np.where(np.isin(words, UNHEARD), "test", "validation")
    return recordings.clips[(parts == part) & ~np.isin(words, list(vocabulary))]
