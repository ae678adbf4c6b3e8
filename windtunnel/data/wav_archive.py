"""Read recordings of words from a zip or a folder of WAV files. A zip is not unpacked onto the disk.

A manifest defines the words, the sample rate and the layout; see `windtunnel.data.recordings_manifest`. Without one, they are the eight
words in the layout of the Speech Commands (arXiv 1804.03209): a recording is `FOLDER/WORD/SPEAKER_nohash_N.wav`, where SPEAKER is eight
hexadecimal digits and N counts the recordings of this word by this speaker.
"""

import functools
import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from windtunnel.data.clips import CLIP_SAMPLES, SAMPLE_RATE, WORDS
from windtunnel.data.recordings_manifest import FILE as MANIFEST
from windtunnel.data.recordings_manifest import RecordingsManifest, parse
from windtunnel.data.wav import one_second, read_wav
from windtunnel.errors import WindtunnelError

# TensorFlow's archive has 174 MiB and 8,000 recordings; a WAV file of one second has 32,044 bytes. Larger files are rejected.
MAX_BYTES = 512 * 2**20
MAX_RECORDINGS = 20_000
MAX_WAV = 64 * 2**10
LONGEST_SECONDS = 10
"""The maximum length of a recording in a data set with a manifest. Of recordings longer than a second, the loudest second is used."""

_ROOM = 32 * 2**10  # bytes for the other content of a WAV file
RECORDING = re.compile(rf"[a-z_]+/({'|'.join(WORDS)})/([0-9a-f]{{8}})_nohash_[0-9]+\.wav")


class Recorded(NamedTuple):
    """The content of an archive or a folder, in the order of words and file names: N recordings without duplicates.

    `clips` is int16 (N,16000), padded with zeros; `labels` uint8 (N), an index into the words; `speakers` str (N); `digest` the SHA-256
    of the list of words, file names and SHA-256 of the samples in the files. It does not depend on how the archive is packed.
    """

    clips: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    digest: str


class _Found(NamedTuple):
    """A recording: its word, its name in the list of all, the path of its file, its speaker, and the function that reads its bytes."""

    word: str
    name: str
    path: str
    speaker: str
    read: Callable[[], bytes]


def read_folder(folder: Path, manifest: RecordingsManifest | None = None) -> Recorded:
    """Read all recordings below `folder`, in the layout of `manifest`, or as `WORD/NAME.wav`, as in an unpacked archive.

    A file whose name does not contain a speaker counts as a speaker of its own.

    Raises:
        WindtunnelError: a file cannot be read or is not a recording, or a word has no recording.
    """
    try:
        if manifest is not None:
            wavs = ((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*.[wW][aA][vV]"))
            return _collect(_named_by(manifest, wavs, lambda file: file.read_bytes, folder), folder, manifest)
        found = (_Found(word, file.name, f"{word}/{file.name}", _speaker(word, file), file.read_bytes) for word, file in word_files(folder))
        return _collect(list(found), folder)
    except OSError as error:
        raise WindtunnelError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error


def word_files(folder: Path) -> list[tuple[str, Path]]:
    """Return the files `WORD/NAME.wav` below `folder` with their words, sorted by the order of WORDS and then by name."""
    return [(word, file) for word in WORDS for file in sorted((folder / word).glob("[!.]*.[wW][aA][vV]"))]


def _speaker(word: str, file: Path) -> str:
    found = RECORDING.fullmatch(f"folder/{word}/{file.name}")
    return found[2] if found is not None else _alone(file.name)


def _alone(name: str) -> str:
    """Return the speaker for a file whose name does not contain one."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def read_archive(file: Path, manifest: RecordingsManifest | None = None) -> Recorded:
    """Read all recordings in the zip `file`. Entries that are not WAV files, and those that macOS adds, are skipped.

    Raises:
        WindtunnelError: the file cannot be read, is damaged or too large, contains a WAV file that is not a recording of a known word,
            or has no recording of one of the words.
    """
    with _opened(file) as archive:
        return _read(archive, file, manifest)


def packed_manifest(file: Path) -> RecordingsManifest | None:
    """Return the manifest in the zip `file`, at the top or in a top-level folder; None if there is none.

    Raises:
        WindtunnelError: the file cannot be read or is not a zip, or the manifest is not valid.
    """
    with _opened(file) as archive:
        for entry in archive.infolist():
            if entry.filename.rpartition("/")[2] == MANIFEST and entry.filename.count("/") <= 1:
                return parse(_unpacked(archive, entry, file, MAX_WAV), f"{file}: {entry.filename}")
    return None


@contextmanager
def _opened(file: Path) -> Iterator[ZipFile]:
    """Open a zip, and turn its exceptions into WindtunnelError."""
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            problem = f"{file} is too large for an archive of recordings: found {size} bytes, expected at most {MAX_BYTES}"
            raise WindtunnelError(f"{problem}. Get the right one")
        with ZipFile(file) as archive:
            yield archive
    except (BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError) as error:
        raise WindtunnelError(f"{file} is truncated or is not a zip ({error}): delete it and download it again") from error
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read: {error.strerror or error}") from error


def _read(archive: ZipFile, file: Path, manifest: RecordingsManifest | None) -> Recorded:
    entries = [entry for entry in archive.infolist() if _is_wav(entry.filename)]
    if manifest is not None:
        largest = 2 * LONGEST_SECONDS * manifest.sample_rate + _ROOM
        wavs = ((entry.filename, entry) for entry in entries)
        found = _named_by(manifest, wavs, lambda entry: functools.partial(_unpacked, archive, entry, file, largest), file)
        return _collect(found, file, manifest)
    found = []
    for entry in entries:
        word, speaker = _named(entry.filename, file)
        name = entry.filename.rpartition("/")[2]
        found.append(_Found(word, name, entry.filename, speaker, functools.partial(_unpacked, archive, entry, file, MAX_WAV)))
    return _collect(found, file)


_Wav = TypeVar("_Wav")


def _named_by(
    manifest: RecordingsManifest, wavs: Iterable[tuple[str, _Wav]], reader: Callable[[_Wav], Callable[[], bytes]], place: Path
) -> list[_Found]:
    """Return the recordings among the files `wavs`, without those of words that are not in the manifest."""
    found = []
    for path, wav in wavs:
        if any(part.startswith(".") for part in path.split("/")):  # hidden files, such as those of macOS
            continue
        try:
            named = manifest.named(path)
        except WindtunnelError as error:
            raise WindtunnelError(f"{place}: {error}") from error
        if named is not None:
            found.append(_Found(named.word, named.name, path, named.speaker or _alone(named.name), reader(wav)))
    return found


def _collect(found: Sequence[_Found], place: Path, manifest: RecordingsManifest | None = None) -> Recorded:
    words, rate, seconds = (WORDS, SAMPLE_RATE, 1) if manifest is None else (manifest.vocabulary, manifest.sample_rate, LONGEST_SECONDS)
    if len(found) > MAX_RECORDINGS:
        raise WindtunnelError(f"{place} has too many recordings: found {len(found)}, expected at most {MAX_RECORDINGS}. Remove some")
    clips, labels = np.zeros((len(found), CLIP_SAMPLES), np.int16), np.zeros(len(found), np.uint8)
    speakers = []
    listing = hashlib.sha256()
    seen: set[str] = set()
    for each in sorted(found, key=lambda each: (words.index(each.word), each.name)):
        samples = read_wav(each.read(), f"{place}: {each.path}", rate, seconds)
        digest = hashlib.sha256(samples.data).hexdigest()
        if digest not in seen:
            clip = one_second(samples, rate)
            clips[len(seen), : len(clip)], labels[len(seen)] = clip, words.index(each.word)
            speakers.append(each.speaker)
            listing.update(f"{each.word} {each.name} {digest}\n".encode())
            seen.add(digest)
    if lacking := set(range(len(words))) - set(labels[: len(seen)].tolist()):
        none = f"{place} has no recording of {', '.join(words[label] for label in sorted(lacking))}"
        raise WindtunnelError(f"{none}: get a complete one, or record them")
    return Recorded(clips[: len(seen)], labels[: len(seen)], np.array(speakers), listing.hexdigest())


def _is_wav(name: str) -> bool:
    return name.lower().endswith(".wav") and not name.startswith("__MACOSX/")


def _named(name: str, file: Path) -> tuple[str, str]:
    """Return the word and the speaker of the recording `name`."""
    found = RECORDING.fullmatch(name)
    if found is None:
        raise WindtunnelError(
            f"{file} has a recording with a wrong name: found {name!r}, expected FOLDER/WORD/SPEAKER_nohash_N.wav, where WORD is one of "
            f"{', '.join(WORDS)} and SPEAKER is eight hexadecimal digits. Remove it from the archive, or download the archive again"
        )
    return found[1], found[2]


def _unpacked(archive: ZipFile, entry: ZipInfo, file: Path, largest: int) -> bytes:
    """Return the bytes of `entry`, at most `largest`, whatever size the entry states."""
    if entry.flag_bits & 1 or entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise WindtunnelError(f"{file}: {entry.filename} is encrypted, or not compressed with deflate: pack the archive again")
    if entry.file_size > largest:
        expected = f"less for one second of {SAMPLE_RATE} Hz" if largest == MAX_WAV else f"at most {largest}"
        raise WindtunnelError(f"{file}: {entry.filename} is too large: found {entry.file_size} bytes, expected {expected}")
    with archive.open(entry) as stream:
        return stream.read(largest)
