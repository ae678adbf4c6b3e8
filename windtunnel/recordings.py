"""Recordings of spoken commands: data sets as those of images are, found, verified and read in the same way, and split by speaker."""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np

from windtunnel.clips import WORDS
from windtunnel.datasets import SPEECH, Content, Source, locate_among
from windtunnel.download import Wanted, fetch
from windtunnel.errors import WindtunnelError
from windtunnel.synthesis import render
from windtunnel.wav_archive import MAX_BYTES, read_archive, read_folder

_log = logging.getLogger(__name__)

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Recordings(Content):
    """N recordings, no two of the same samples, in an order that is always the same.

    `clips` is int16 (N,16000), zeros after what is shorter, `labels` uint8 (N), an index into WORDS, `speakers` str (N), eight hexadecimal
    digits each; `files` holds the SHA-256 of the list of all words, file names and samples.
    """

    name: str
    directory: Path
    clips: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    files: Mapping[str, str]

    def split(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """The clips, int16 (N,16000), and labels, uint8 (N), of the speakers of one part."""
        if part not in get_args(Part):
            raise WindtunnelError(f"recordings have no part {part!r}: choose {', '.join(get_args(Part))}")
        here = self._parts() == part
        return self.clips[here], self.labels[here]

    def counts(self) -> dict[str, int]:
        """How many recordings each part has."""
        parts = self._parts()
        return {part: int((parts == part).sum()) for part in get_args(Part)}

    def _parts(self) -> np.ndarray:
        speakers, which = np.unique(self.speakers, return_inverse=True)
        return np.array([part_of(speaker) for speaker in speakers])[which]


def part_of(speaker: str) -> Part:
    """The part that all recordings of a speaker belong to, for ever: a fifth of the speakers are to test, a tenth to validate with.

    The Speech Commands have a rule of their own, by the SHA-1 of the speaker. It is of no use here: among the recordings that were chosen
    for the small set, not one is of a speaker that this rule tests with.
    """
    share = int(hashlib.sha256(speaker.encode()).hexdigest()[:8], 16) % 100
    return "test" if share < 20 else "validation" if share < 30 else "train"


@dataclass(frozen=True, kw_only=True)
class Archive(Source[Recordings]):
    """Recordings in one zip, `file`. Not known by one SHA-256, since there are several of the same name: each recording is verified."""

    file: str

    def is_in(self, directory: Path) -> bool:
        """Whether the zip is there."""
        return os.path.isfile(directory / self.file)

    def is_alone_in(self, directory: Path) -> bool:
        """Whether the zip is there: no other is called so."""
        return self.is_in(directory)

    def read(self, name: str, directory: Path) -> Recordings:
        """Its recordings, every one verified: those in the zip, or, where it was unpacked, in folders of words."""
        unpacked = not self.is_in(directory) and any((directory / word).is_dir() for word in WORDS)
        recorded = read_folder(directory) if unpacked else read_archive(directory / self.file)
        return Recordings(name, directory, recorded.clips, recorded.labels, recorded.speakers, {self.file: recorded.digest})


@dataclass(frozen=True, kw_only=True)
class Published(Archive):
    """Recordings that are on the Internet, below `mirrors`."""

    mirrors: Sequence[str]

    @property
    def remedy(self) -> str:
        """Put it there by hand."""
        return f"put {self.file} into {self.folders[0]}/ in a folder that WINDTUNNEL_DATA names"

    def get(self, directory: Path) -> None:
        """Download it."""
        fetch([Wanted(self.file, MAX_BYTES, _flaw)], self.mirrors, directory)


@dataclass(frozen=True, kw_only=True)
class Synthetic(Archive):
    """What a synthesiser says: for where no recordings can be had."""

    verb: ClassVar[str] = "render"

    @property
    def remedy(self) -> str:
        """Give it a folder."""
        return "name a folder that can be written in WINDTUNNEL_DATA"

    def get(self, directory: Path) -> None:
        """Let the synthesiser speak."""
        render(directory / self.file)


RECORDINGS: Mapping[str, Archive] = {
    # Warden, arXiv 1804.03209, and https://www.tensorflow.org/tutorials/audio/simple_audio
    "mini_speech_commands": Published(
        title="Mini Speech Commands",
        folders=(SPEECH, "mini_speech_commands"),
        file="mini_speech_commands.zip",
        mirrors=("https://storage.googleapis.com/download.tensorflow.org/data/",),
    ),
    "demonstration": Synthetic(
        title="the demonstration set (synthetic voices: for a demonstration, not for real speech)",
        folders=(SPEECH, "demonstration"),
        file="demonstration.zip",
    ),
}


def locate_recordings(name: str, say: Callable[[str], None] = _log.info) -> Recordings:
    """The recordings `name`: the first found on the search path, else downloaded or rendered; every one verified.

    Args:
        name: `mini_speech_commands`, `demonstration`, or `auto`: the first where it can be had, else the demonstration set.
        say: told, in a line each, which recordings are used and why.

    Raises:
        WindtunnelError: `name` is unknown, the archive is not what it should be, or the recordings are nowhere and cannot be had.
    """
    return locate_among(RECORDINGS, name, say)


def _flaw(file: Path) -> str | None:
    try:
        read_archive(file)
    except WindtunnelError as error:
        return f"a wrong file ({error})"
    return None
