"""Recordings of spoken words: data sets as those of images are, found, verified and read in the same way, and split by speaker.

The known ones are in RECORDINGS. Another one has a manifest, see `windtunnel.recordings_manifest`, and is found by its name on the data
search path: `speech/NAME.zip`, or the folder `speech/NAME`.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np

from windtunnel.clips import SAMPLE_RATE, WORDS
from windtunnel.datasets import SPEECH, Content, Source, find, locate_among
from windtunnel.download import DownloadError, Wanted, fetch
from windtunnel.errors import WindtunnelError
from windtunnel.recordings_manifest import FILE, RecordingsManifest, parse
from windtunnel.synthesis import render
from windtunnel.wav_archive import MAX_BYTES, Recorded, packed_manifest, read_archive, read_folder

_log = logging.getLogger(__name__)

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Recordings(Content):
    """N recordings of some words, no two of the same samples, in an order that is always the same.

    `clips` is int16 (N,16000), zeros after what is shorter, `labels` uint8 (N), an index into `words`, `speakers` str (N), and `parts` str
    (N), the part that each speaker belongs to. `files` holds the SHA-256 of the list of all words, file names and samples, and that of the
    manifest where there is one: who is split otherwise is another data set.
    """

    name: str
    directory: Path
    title: str
    words: tuple[str, ...]
    clips: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    parts: np.ndarray
    files: Mapping[str, str]

    def split(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """The clips, int16 (N,16000), and labels, uint8 (N), of the speakers of one part."""
        if part not in get_args(Part):
            raise WindtunnelError(f"recordings have no part {part!r}: choose {', '.join(get_args(Part))}")
        here = self.parts == part
        return self.clips[here], self.labels[here]

    def counts(self) -> dict[str, int]:
        """How many recordings each part has."""
        return {part: int((self.parts == part).sum()) for part in get_args(Part)}

    def speakers_of(self, part: Part) -> int:
        """How many speakers a part has."""
        return len(set(self.speakers[self.parts == part].tolist()))


def part_of(speaker: str) -> Part:
    """The part that all recordings of a speaker belong to, for ever: a fifth of the speakers are to test, a tenth to validate with.

    So it is where no manifest names the speakers of the parts.

    The Speech Commands have a rule of their own, by the SHA-1 of the speaker. It is of no use here: among the recordings that were chosen
    for the small set, not one is of a speaker that this rule tests with.
    """
    share = int(hashlib.sha256(speaker.encode()).hexdigest()[:8], 16) % 100
    return "test" if share < 20 else "validation" if share < 30 else "train"


@dataclass(frozen=True, kw_only=True)
class Archive(Source[Recordings]):
    """Recordings in one zip, `file`, or in a folder of that name.

    They are not known by one SHA-256, since there are several of the same name: each recording is verified.
    `manifest` is theirs where none lies in the zip or beside it; with None they are the eight words in the layout of the Speech Commands.
    """

    file: str
    manifest: RecordingsManifest | None = None

    def is_in(self, directory: Path) -> bool:
        """Whether the zip is there, or the folder, with its manifest."""
        return os.path.isfile(directory / self.file) or os.path.isfile(self._folder(directory) / FILE)

    def is_alone_in(self, directory: Path) -> bool:
        """Whether they are there: no others are called so."""
        return self.is_in(directory)

    def manifest_in(self, directory: Path) -> RecordingsManifest | None:
        """What names the words, the rate and the split of the recordings there; None where they are the eight words.

        Raises:
            WindtunnelError: the manifest, or the zip it is in, cannot be read.
        """
        archive = directory / self.file
        beside = archive.with_suffix(".json") if archive.is_file() else self._folder(directory) / FILE
        try:
            return parse(beside.read_bytes(), str(beside))
        except FileNotFoundError:
            found = packed_manifest(archive) if archive.is_file() else None
        except OSError as error:
            raise WindtunnelError(f"{beside} cannot be read ({error.strerror}): let it be read") from error
        return found or self.manifest

    def read(self, name: str, directory: Path) -> Recordings:
        """Its recordings, every one verified: those in the zip, or, where it was unpacked, in folders of words."""
        manifest, archive, folder = self.manifest_in(directory), directory / self.file, self._folder(directory)
        if archive.is_file():
            place, recorded = archive, read_archive(archive, manifest)
        elif (folder / FILE).is_file():
            place, recorded = folder, read_folder(folder, manifest)
        elif any((directory / word).is_dir() for word in WORDS):
            place, recorded = directory, read_folder(directory)
        else:
            place, recorded = archive, read_archive(archive)  # which says that it is not there
        content = (_words(manifest), recorded.clips, recorded.labels, recorded.speakers)
        files = {self.file: recorded.digest}
        if manifest is None:
            parts = _by_speaker(recorded, {speaker: part_of(speaker) for speaker in set(recorded.speakers.tolist())})
            return Recordings(name, directory, self.title, *content, parts, files)
        return Recordings(name, directory, manifest.title, *content, _parts(place, manifest, recorded), files | {FILE: manifest.digest})

    def _folder(self, directory: Path) -> Path:
        return directory / Path(self.file).stem


def _by_speaker(recorded: Recorded, parts: Mapping[str, Part]) -> np.ndarray:
    """The part of each recording, str (N)."""
    return np.array([parts[speaker] for speaker in recorded.speakers.tolist()])


def _parts(place: Path, manifest: RecordingsManifest, recorded: Recorded) -> np.ndarray:
    """The part of each recording, str (N), as a manifest has it.

    Raises:
        WindtunnelError: a speaker that it names says nothing, a part has no speaker, or nobody to train with says a word.
    """
    parts: dict[str, Part] = {speaker: part_of(speaker) for speaker in set(recorded.speakers.tolist())}
    if manifest.test is not None and manifest.validation is not None:
        named: dict[str, Part] = {**dict.fromkeys(manifest.validation, "validation"), **dict.fromkeys(manifest.test, "test")}
        if strangers := sorted(set(named) - set(parts)):
            found = f"{place} holds no recording of {', '.join(strangers)}, named in its manifest: there are {_few(sorted(parts))}"
            raise WindtunnelError(f"{found}; correct `test` and `validation`")
        parts = {speaker: named.get(speaker, "train") for speaker in parts}
    if lacking := [part for part in get_args(Part) if part not in parts.values()]:
        raise WindtunnelError(
            f"{place} has no speaker for {' and '.join(lacking)}: name `test` and `validation` speakers in its manifest, and leave others "
            f"to train with; there are {_few(sorted(parts))}"
        )
    here = _by_speaker(recorded, parts)
    taught = set(recorded.labels[here == "train"].tolist())
    if untaught := [word for label, word in enumerate(manifest.vocabulary) if label not in taught]:
        raise WindtunnelError(f"{place}: no speaker to train with says {', '.join(untaught)}: name others in `test` and `validation`")
    return here


def _few(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
    """What a synthesiser says: for where no recordings can be had. With `each`, a voice says so many of the words, not all."""

    verb: ClassVar[str] = "render"
    each: int | None = None

    @property
    def remedy(self) -> str:
        """Give it a folder."""
        return "name a folder that can be written in WINDTUNNEL_DATA"

    def get(self, directory: Path) -> None:
        """Let the synthesiser speak."""
        render(directory / self.file, WORDS if self.manifest is None else self.manifest.vocabulary, self.each)


@dataclass(frozen=True, kw_only=True)
class Given(Archive):
    """Recordings that somebody has put there: they are found, and never got. `origin` says where they are to be had."""

    verb: ClassVar[str] = "fetch"
    origin: str = ""

    @property
    def remedy(self) -> str:
        """Put it there by hand."""
        return f"put {self.file}{self.origin} into {self.folders[0]}/ in a folder that WINDTUNNEL_DATA names"

    def get(self, directory: Path) -> None:
        """There is nowhere to get it from."""
        raise DownloadError("no mirror is known")


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def as_speech_commands(title: str, words: Sequence[str]) -> RecordingsManifest:
    """The manifest of recordings of other words that are laid out as the Speech Commands are."""
    recording = "{word}/{speaker}_nohash_{n}.wav"
    return RecordingsManifest(title=title, words={word: word for word in words}, sample_rate=SAMPLE_RATE, recording=recording)


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
    # Jackson and others, doi.org/10.5281/zenodo.1342401
    "free_spoken_digits": Given(
        title="Free Spoken Digits",
        folders=(SPEECH, "free_spoken_digits"),
        file="free_spoken_digits.zip",
        origin=", a zip of https://github.com/Jakobovski/free-spoken-digit-dataset,",
        manifest=RecordingsManifest(
            title="Free Spoken Digits",
            words={str(number): word for number, word in enumerate(DIGITS)},
            sample_rate=8000,
            recording="{word}_{speaker}_{n}.wav",
            test=("theo", "yweweler"),
            validation=("nicolas",),
        ),
    ),
    "demonstration_digits": Synthetic(
        title="ten digits by synthetic voices (for a demonstration, not for real speech)",
        folders=(SPEECH, "demonstration_digits"),
        file="demonstration_digits.zip",
        manifest=as_speech_commands("ten digits by synthetic voices (for a demonstration, not for real speech)", DIGITS),
    ),
}
INSTEAD = {"free_spoken_digits": "demonstration_digits"}
"""What is taken where a data set cannot be had; of `auto` it is the demonstration set."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def locate_recordings(name: str, say: Callable[[str], None] = _log.info) -> Recordings:
    """The recordings `name`: the first found on the search path, else downloaded or rendered; every one verified.

    Args:
        name: one of RECORDINGS; `auto`, `mini_speech_commands` where it can be had, else the demonstration set; or the name of recordings
            with a manifest on the search path. Where `free_spoken_digits` cannot be had, `demonstration_digits` are taken.
        say: told, in a line each, which recordings are used and why.

    Raises:
        WindtunnelError: `name` is unknown, the archive is not what it should be, or the recordings are nowhere and cannot be had.
    """
    sources = sources_with(name)
    try:
        return locate_among(sources, name, say)
    except DownloadError as error:
        if name not in INSTEAD:
            raise
        say(f"{sources[INSTEAD[name]].title} is taken: {error}")
        return locate_among(sources, INSTEAD[name], say)


def sources_with(name: str) -> Mapping[str, Archive]:
    """RECORDINGS, and those of this name on the search path where it is none of them."""
    if name in RECORDINGS or not _NAME.fullmatch(name) or name == "auto":
        return RECORDINGS
    source = source_of(name)
    directory = find(source)
    if directory is None:
        return RECORDINGS
    manifest = source.manifest_in(directory)
    return {**RECORDINGS, name: source if manifest is None else replace(source, title=manifest.title)}


def source_of(name: str) -> Archive:
    """How recordings of a name are kept, whether they are among the known ones or not."""
    return RECORDINGS.get(name) or Given(title=name, folders=(SPEECH,), file=f"{name}.zip")


def vocabulary_of(name: str) -> tuple[str, ...]:
    """The words of the recordings `name`, without a look at the recordings: the eight where nothing says others."""
    source = sources_with(name).get(name)
    if source is None:  # auto, or a name that is unknown, as whoever locates them will be told
        return WORDS
    directory = find(source)
    return _words(source.manifest if directory is None else source.manifest_in(directory))


def vocabulary_at(path: Path | None) -> tuple[str, ...]:
    """The words of recordings that somebody names by a path, as `place_of` understands it; the eight with None."""
    if path is None:
        return WORDS
    name, directory = place_of(path)
    return _words(source_of(name).manifest_in(directory))


def _words(manifest: RecordingsManifest | None) -> tuple[str, ...]:
    return WORDS if manifest is None else manifest.vocabulary


def place_of(path: Path) -> tuple[str, Path]:
    """The name of recordings that somebody names by a path, and the directory to read them from.

    The path is that of a zip or of a folder with a manifest; else of a folder with `mini_speech_commands.zip`, or folders of its words.
    """
    if path.suffix == ".zip" or (path / FILE).is_file():
        return path.stem if path.suffix == ".zip" else path.name, path.parent
    return "mini_speech_commands", path


def _flaw(file: Path) -> str | None:
    try:
        read_archive(file)
    except WindtunnelError as error:
        return f"a wrong file ({error})"
    return None
