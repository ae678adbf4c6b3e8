"""Data sets of spoken words. They are found, verified and read like those of images, and split by speaker.

The known ones are in RECORDINGS. Others need a manifest (see `windtunnel.data.recordings_manifest`), and are found by name on the data
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

from windtunnel.data.clips import SAMPLE_RATE, WORDS
from windtunnel.data.datasets import SPEECH, Content, Source, find, locate_among
from windtunnel.data.download import DownloadError, Wanted, fetch
from windtunnel.data.recordings_manifest import FILE, RecordingsManifest, parse
from windtunnel.data.synthesis import render
from windtunnel.data.wav_archive import MAX_BYTES, Recorded, packed_manifest, read_archive, read_folder
from windtunnel.errors import WindtunnelError

_log = logging.getLogger(__name__)

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Recordings(Content):
    """N recordings of some words, without duplicates, in a deterministic order.

    `clips` is int16 (N,16000), padded with zeros; `labels` uint8 (N), an index into `words`; `speakers` str (N); `parts` str (N), the
    part of each speaker. `files` has the SHA-256 of the list of all words, file names and samples, and that of the manifest if there is
    one: the same recordings with another split are another data set.
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
        """Return the clips, int16 (N,16000), and labels, uint8 (N), of one part."""
        if part not in get_args(Part):
            raise WindtunnelError(f"recordings have no part {part!r}: choose {', '.join(get_args(Part))}")
        here = self.parts == part
        return self.clips[here], self.labels[here]

    def counts(self) -> dict[str, int]:
        """Return the number of recordings in each part."""
        return {part: int((self.parts == part).sum()) for part in get_args(Part)}

    def speakers_of(self, part: Part) -> int:
        """Return the number of speakers in a part."""
        return len(set(self.speakers[self.parts == part].tolist()))


CERTAIN = 100
"""The number of test clips from which a measured accuracy is uncertain by less than 10 points: 1.96 standard errors, of a half."""


def check_clips(data: Recordings, say: Callable[[str], None]) -> None:
    """Check that each word has a clip to train with and one to test with, and say what else the recordings are too few for.

    A word without training clips is never answered. Without test clips, its mistakes are in no accuracy, and a release is judged without
    it. Validation clips only calibrate the probabilities, so recordings without them are trained on.

    Raises:
        WindtunnelError: a word has no training clip or no test clip.
    """

    def lacking(part: Part) -> str:
        found = set(data.split(part)[1].tolist())
        return _few([word for label, word in enumerate(data.words) if label not in found])

    needed: Mapping[Part, str] = {"train": "training", "test": "test"}
    for part, what in needed.items():
        if words := lacking(part):
            raise WindtunnelError(
                f"{data.name} in {data.directory} has too few {what} clips: found 0 of {words}, expected 1 of each word at least. Record "
                "more speakers, or name others in `test` and `validation` of a manifest"
            )
    if words := lacking("validation"):
        say(f"warning: {data.name} has no validation clip of {words}: the probabilities of these words are not calibrated")
    if (tested := data.counts()["test"]) < CERTAIN:
        points = 98 / tested**0.5
        uncertain = f"an accuracy measured with them is uncertain by up to {points:.0f} points (95% confidence)"
        say(f"warning: {data.name} has only {tested} test clips: {uncertain}. Record more speakers")


def part_of(speaker: str) -> Part:
    """Return the part of all recordings of a speaker: a fifth of the speakers are for test, a tenth for validation. It never changes.

    This rule applies if no manifest names the speakers of the parts.

    The Speech Commands' own rule uses the SHA-1 of the speaker. It cannot be used here: the small data set has no recording of any
    speaker that this rule assigns to test.
    """
    share = int(hashlib.sha256(speaker.encode()).hexdigest()[:8], 16) % 100
    return "test" if share < 20 else "validation" if share < 30 else "train"


@dataclass(frozen=True, kw_only=True)
class Archive(Source[Recordings]):
    """Recordings in one zip, `file`, or in a folder of that name.

    There is no expected SHA-256, because several archives have the same name: each recording is verified instead. `manifest` is used if
    there is none in the zip or beside it; None means the eight words in the layout of the Speech Commands.
    """

    file: str
    manifest: RecordingsManifest | None = None

    def is_in(self, directory: Path) -> bool:
        """Whether the zip exists, or the folder with its manifest."""
        return os.path.isfile(directory / self.file) or os.path.isfile(self._folder(directory) / FILE)

    def is_alone_in(self, directory: Path) -> bool:
        """Whether they exist: no other data set has this name."""
        return self.is_in(directory)

    def manifest_in(self, directory: Path) -> RecordingsManifest | None:
        """Return the manifest of the recordings in `directory`; None if they are the eight words.

        Raises:
            WindtunnelError: the manifest, or the zip that contains it, cannot be read.
        """
        archive = directory / self.file
        beside = archive.with_suffix(".json") if archive.is_file() else self._folder(directory) / FILE
        try:
            return parse(beside.read_bytes(), str(beside))
        except FileNotFoundError:
            found = packed_manifest(archive) if archive.is_file() else None
        except OSError as error:
            raise WindtunnelError(f"{beside} cannot be read ({error.strerror}): correct its permissions") from error
        return found or self.manifest

    def read(self, name: str, directory: Path) -> Recordings:
        """Read and verify all recordings: those in the zip, or those in folders of words if it was unpacked."""
        manifest, archive, folder = self.manifest_in(directory), directory / self.file, self._folder(directory)
        if archive.is_file():
            place, recorded = archive, read_archive(archive, manifest)
        elif (folder / FILE).is_file():
            place, recorded = folder, read_folder(folder, manifest)
        elif _has_folders_of_words(directory):
            place, recorded = directory, read_folder(directory)
        else:
            place, recorded = archive, read_archive(archive)  # raises the error that it is missing
        content = (_words(manifest), recorded.clips, recorded.labels, recorded.speakers)
        files = {self.file: recorded.digest}
        if manifest is None:
            parts = _by_speaker(recorded, {speaker: part_of(speaker) for speaker in set(recorded.speakers.tolist())})
            return Recordings(name, directory, self.title, *content, parts, files)
        return Recordings(name, directory, manifest.title, *content, _parts(place, manifest, recorded), files | {FILE: manifest.digest})

    def can_be_read(self, directory: Path) -> bool:
        """Return whether `read` finds recordings, wrong ones included."""
        return self.is_in(directory) or _has_folders_of_words(directory)

    def _folder(self, directory: Path) -> Path:
        return directory / Path(self.file).stem


def _has_folders_of_words(directory: Path) -> bool:
    return any((directory / word).is_dir() for word in WORDS)


def _by_speaker(recorded: Recorded, parts: Mapping[str, Part]) -> np.ndarray:
    """Return the part of each recording, str (N)."""
    return np.array([parts[speaker] for speaker in recorded.speakers.tolist()])


def _parts(place: Path, manifest: RecordingsManifest, recorded: Recorded) -> np.ndarray:
    """Return the part of each recording, str (N), according to a manifest.

    Raises:
        WindtunnelError: the manifest names a speaker without recordings, or a part has no speaker.
    """
    parts: dict[str, Part] = {speaker: part_of(speaker) for speaker in set(recorded.speakers.tolist())}
    if manifest.test is not None and manifest.validation is not None:
        named: dict[str, Part] = {**dict.fromkeys(manifest.validation, "validation"), **dict.fromkeys(manifest.test, "test")}
        if strangers := sorted(set(named) - set(parts)):
            found = f"{place} has no recording of {', '.join(strangers)}, but its manifest names them; found {_few(sorted(parts))}"
            raise WindtunnelError(f"{found}. Correct `test` and `validation`")
        parts = {speaker: named.get(speaker, "train") for speaker in parts}
    if lacking := [part for part in get_args(Part) if part not in parts.values()]:
        raise WindtunnelError(
            f"{place} has no speaker for {' and '.join(lacking)}: found {len(parts)} ({_few(sorted(parts))}), expected one at least for "
            "each of train, validation and test. Name `test` and `validation` speakers in its manifest, and leave others for training"
        )
    return _by_speaker(recorded, parts)


def _few(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True, kw_only=True)
class Published(Archive):
    """Recordings that can be downloaded from `mirrors`."""

    mirrors: Sequence[str]

    @property
    def remedy(self) -> str:
        """Install it manually."""
        return f"put {self.file} into {self.folders[0]}/ in a folder that is listed in WINDTUNNEL_DATA"

    def get(self, directory: Path) -> None:
        """Download the zip."""
        fetch([Wanted(self.file, MAX_BYTES, _flaw)], self.mirrors, directory)


@dataclass(frozen=True, kw_only=True)
class Synthetic(Archive):
    """Synthesised recordings, for use without real ones. With `each`, a voice speaks so many of the words instead of all."""

    verb: ClassVar[str] = "render"
    each: int | None = None

    @property
    def remedy(self) -> str:
        """Provide a folder."""
        return "list a writable folder in WINDTUNNEL_DATA"

    def get(self, directory: Path) -> None:
        """Synthesise the recordings."""
        render(directory / self.file, WORDS if self.manifest is None else self.manifest.vocabulary, self.each)


@dataclass(frozen=True, kw_only=True)
class Given(Archive):
    """Recordings that the user installs: they are never downloaded. `origin` says where to get them."""

    verb: ClassVar[str] = "fetch"
    origin: str = ""

    @property
    def remedy(self) -> str:
        """Install it manually."""
        return f"put {self.file}{self.origin} into {self.folders[0]}/ in a folder that is listed in WINDTUNNEL_DATA"

    def get(self, directory: Path) -> None:
        """Raise DownloadError: there is no mirror."""
        raise DownloadError("no mirror is known")


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def as_speech_commands(title: str, words: Sequence[str]) -> RecordingsManifest:
    """Return a manifest for recordings of other words in the layout of the Speech Commands."""
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
"""The replacement for a data set that is not available. For `auto` it is the demonstration set."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def locate_recordings(name: str, say: Callable[[str], None] = _log.info) -> Recordings:
    """Find the recordings `name` on the search path, or download or synthesise them, and verify every one.

    Args:
        name: one of RECORDINGS; `auto`: `mini_speech_commands` if it is available, else the demonstration set; or the name of
            recordings with a manifest on the search path. If `free_spoken_digits` is not available, `demonstration_digits` is used.
        say: called with messages about which recordings are used and why.

    Raises:
        WindtunnelError: `name` is unknown, the archive has wrong content, the recordings are not found and cannot be obtained, or a word
            has too few.
    """
    sources = sources_with(name)
    try:
        found = locate_among(sources, name, say)
    except DownloadError as error:
        if name not in INSTEAD:
            raise
        say(f"using {sources[INSTEAD[name]].title} instead: {error}")
        found = locate_among(sources, INSTEAD[name], say)
    check_clips(found, say)
    return found


def sources_with(name: str) -> Mapping[str, Archive]:
    """Return RECORDINGS, and the recordings `name` if they are on the search path and not in RECORDINGS."""
    if name in RECORDINGS or not _NAME.fullmatch(name) or name == "auto":
        return RECORDINGS
    source = source_of(name)
    directory = find(source)
    if directory is None:
        return RECORDINGS
    manifest = source.manifest_in(directory)
    return {**RECORDINGS, name: source if manifest is None else replace(source, title=manifest.title)}


def source_of(name: str) -> Archive:
    """Return the source of the recordings `name`, whether known or not."""
    return RECORDINGS.get(name) or Given(title=name, folders=(SPEECH,), file=f"{name}.zip")


def vocabulary_of(name: str) -> tuple[str, ...]:
    """Return the words of the recordings `name` without reading the recordings. The default is the eight words."""
    source = sources_with(name).get(name)
    if source is None:  # auto, or an unknown name, for which `locate_recordings` raises an error
        return WORDS
    directory = find(source)
    return _words(source.manifest if directory is None else source.manifest_in(directory))


def vocabulary_at(path: Path | None) -> tuple[str, ...]:
    """Return the words of the recordings at a path (see `place_of`); for None, the eight words."""
    if path is None:
        return WORDS
    name, directory = place_of(path)
    return _words(source_of(name).manifest_in(directory))


def has_recordings(path: Path) -> bool:
    """Return whether there are recordings at a path (see `place_of`)."""
    name, directory = place_of(path)
    return source_of(name).can_be_read(directory)


def _words(manifest: RecordingsManifest | None) -> tuple[str, ...]:
    return WORDS if manifest is None else manifest.vocabulary


def place_of(path: Path) -> tuple[str, Path]:
    """Return the name of the recordings at a path, and the directory to read them from.

    The path is a zip, a folder with a manifest, or a folder with `mini_speech_commands.zip` or with folders of its words.
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
