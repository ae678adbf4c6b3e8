"""Other words: what is no command, for a recogniser to learn to reject, and to be judged by.

A synthesiser says some; people's recordings are taken where they are found on the data search path. A word of the recogniser's own
vocabulary is left out, whoever says it. Some words are never trained with: what a recogniser makes of them tells how it takes words that it
has never heard.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from windtunnel.datasets import SPEECH, find, locate_among
from windtunnel.download import DownloadError
from windtunnel.recordings import DIGITS, RECORDINGS, Archive, Given, Recordings, Synthetic, as_speech_commands

_log = logging.getLogger(__name__)

UNHEARD = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "off", "on", "sheila", "tree", "wow")
"""The words that are never trained with. Of the Speech Commands' other words they are those that are no digits."""

SPOKEN = (
    # near the eight commands
    *("town", "gown", "done", "dawn", "brown", "noun", "doubt", "dumb", "dust", "dark", "tongue", "crown"),
    *("bow", "toe", "goat", "ghost", "gold", "gone", "god", "got", "good", "give"),
    *("lift", "laughed", "let", "loft", "less", "leg", "lead", "lap"),
    *("not", "new", "now", "nothing", "near", "nose", "note", "north", "low", "slow", "row"),
    *("love", "light", "night", "white", "ride", "rice", "wide", "rise", "rain", "red", "run", "ring"),
    *("step", "stock", "top", "shop", "star", "spot", "store", "stay", "stand", "sleep", "strong"),
    *("cup", "us", "but", "of", "what", "app", "apple", "hope", "hop", "ups", "open", "under"),
    *("yet", "yeah", "guess", "yell", "yesterday", "chess", "dress", "mess", "years"),
    # far from them
    *("again", "hello", "goodbye", "please", "thanks", "water", "music", "play", "pause", "volume", "lamp", "door", "window", "table"),
    *("chair", "green", "blue", "black", "yellow", "orange", "mother", "father", "sister", "brother", "coffee", "kitchen", "number"),
    *("letter", "morning", "evening", "hand", "foot", "head", "eye", "school", "garden", "winter", "summer"),
)
EACH = 20  # of them a voice says

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
"""The first is for everybody: where it is not found, it is spoken. The others are taken where they are found."""


@dataclass(frozen=True, eq=False)
class Others:
    """Clips of other words, int16 (N,16000): to train with, to calibrate probabilities with, and by their kind to be judged by.

    `train` has no speaker of the others, and neither it nor `validation` a word of UNHEARD. `fingerprints` are those of the data sets they
    are of, by name.
    """

    train: np.ndarray
    validation: np.ndarray
    test: Mapping[str, np.ndarray]
    fingerprints: Mapping[str, str]


def locate_others(vocabulary: Collection[str], say: Callable[[str], None] = _log.info) -> Others:
    """Other words than those of a vocabulary, of every data set that is found, and of the synthesiser.

    Args:
        vocabulary: the recogniser's words.
        say: told, in a line each, which data sets are used.

    Raises:
        WindtunnelError: a data set is not what it should be, or the synthesiser does not work.
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
    """What the synthesiser says, kept if there is a place for it."""
    try:
        return locate_among(SOURCES, name, say)
    except DownloadError as error:
        say(f"{SOURCES[name].title} are spoken for this once: {error}")
        with TemporaryDirectory() as place:
            SOURCES[name].get(Path(place))
            return SOURCES[name].read(name, Path(place))


def _clips(recordings: Recordings, vocabulary: Collection[str], part: str) -> np.ndarray:
    words = np.array(recordings.words)[recordings.labels]
    parts = recordings.parts
    if recordings.name == "other_words":  # too few speakers to divide: its words are divided, and none is trained with
        parts = np.where(np.isin(words, UNHEARD), "test", "validation")
    return recordings.clips[(parts == part) & ~np.isin(words, list(vocabulary))]
