"""Read spoken words: a zip of WAVs, or a folder of them. Nothing is unpacked onto the disk.

Words, rate and layout are those that a manifest names, see `windtunnel.recordings_manifest`. Without one they are the eight words, laid
out as the Speech Commands are (arXiv 1804.03209): a recording is `FOLDER/WORD/SPEAKER_nohash_N.wav`, where eight hexadecimal digits stand
for the speaker and N counts the times that speaker has said the word.
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

from windtunnel.clips import CLIP_SAMPLES, SAMPLE_RATE, WORDS
from windtunnel.errors import WindtunnelError
from windtunnel.recordings_manifest import FILE as MANIFEST
from windtunnel.recordings_manifest import RecordingsManifest, parse
from windtunnel.wav import one_second, read_wav

# TensorFlow's archive has 174 MiB and 8,000 recordings, one second as WAV 32,044 bytes. What is larger is something else.
MAX_BYTES = 512 * 2**20
MAX_RECORDINGS = 20_000
MAX_WAV = 64 * 2**10
LONGEST_SECONDS = 10
"""Of a recording in a data set that has a manifest. Of what is longer than a second, the loudest one is taken."""

_ROOM = 32 * 2**10  # for what a WAV holds beside its samples
RECORDING = re.compile(rf"[a-z_]+/({'|'.join(WORDS)})/([0-9a-f]{{8}})_nohash_[0-9]+\.wav")


class Recorded(NamedTuple):
    """What an archive or a folder holds, in the order of words and file names: N recordings, no two of the same samples.

    `clips` is int16 (N,16000), zeros after what is shorter, `labels` uint8 (N), an index into the words, `speakers` str (N), and `digest`
    the SHA-256 of the list of words, file names and SHA-256 of samples as they are in the files: the same however the archive is packed.
    """

    clips: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    digest: str


class _Found(NamedTuple):
    """A recording: its word, its name in the list of all, the path of its file, who speaks, and what reads its bytes."""

    word: str
    name: str
    path: str
    speaker: str
    read: Callable[[], bytes]


def read_folder(folder: Path, manifest: RecordingsManifest | None = None) -> Recorded:
    """Read every recording below `folder`: as its manifest names them, or else `WORD/NAME.wav`, as in an archive that was unpacked.

    A file whose name tells no speaker is of a speaker of its own.

    Raises:
        WindtunnelError: a file cannot be read or is no recording, or there is none of some word.
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
    """The files `WORD/NAME.wav` below `folder` with their words, in the order of WORDS and then of names."""
    return [(word, file) for word in WORDS for file in sorted((folder / word).glob("[!.]*.[wW][aA][vV]"))]


def _speaker(word: str, file: Path) -> str:
    found = RECORDING.fullmatch(f"folder/{word}/{file.name}")
    return found[2] if found is not None else _alone(file.name)


def _alone(name: str) -> str:
    """The speaker of a file that tells none."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def read_archive(file: Path, manifest: RecordingsManifest | None = None) -> Recorded:
    """Read every recording in the zip `file`. What is no WAV, and what macOS adds to a zip, is passed over.

    Raises:
        WindtunnelError: the file cannot be read, is damaged or too large, holds a WAV that is no recording of a known word, or of some
            word none.
    """
    with _opened(file) as archive:
        return _read(archive, file, manifest)


def packed_manifest(file: Path) -> RecordingsManifest | None:
    """The manifest in the zip `file`, at its top or in a folder there; None where there is none.

    Raises:
        WindtunnelError: the file cannot be read or is no zip, or the manifest says nothing that can be read.
    """
    with _opened(file) as archive:
        for entry in archive.infolist():
            if entry.filename.rpartition("/")[2] == MANIFEST and entry.filename.count("/") <= 1:
                return parse(_unpacked(archive, entry, file, MAX_WAV), f"{file}: {entry.filename}")
    return None


@contextmanager
def _opened(file: Path) -> Iterator[ZipFile]:
    """A zip, and what is wrong with it in a sentence."""
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise WindtunnelError(f"{file} has {size} bytes: an archive of recordings has at most {MAX_BYTES}; get the right one")
        with ZipFile(file) as archive:
            yield archive
    except (BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError) as error:
        raise WindtunnelError(f"{file} is truncated or is not a zip ({error}): delete it and get it again") from error
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
    """The recordings among files with their paths, without those of words that the manifest does not name."""
    found = []
    for path, wav in wavs:
        if any(part.startswith(".") for part in path.split("/")):  # such as macOS keeps beside files
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
        raise WindtunnelError(f"{place} holds {len(found)} recordings: at most {MAX_RECORDINGS} are read; leave some out")
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
        raise WindtunnelError(f"{place} holds no recording of {', '.join(words[label] for label in sorted(lacking))}: get a complete one")
    return Recorded(clips[: len(seen)], labels[: len(seen)], np.array(speakers), listing.hexdigest())


def _is_wav(name: str) -> bool:
    return name.lower().endswith(".wav") and not name.startswith("__MACOSX/")


def _named(name: str, file: Path) -> tuple[str, str]:
    """The word and the speaker of the recording `name`."""
    found = RECORDING.fullmatch(name)
    if found is None:
        raise WindtunnelError(
            f"{file} holds {name!r}: a recording is called FOLDER/WORD/SPEAKER_nohash_N.wav, WORD being one of {', '.join(WORDS)}, "
            "SPEAKER eight hexadecimal digits; remove it from the archive, or get the archive again"
        )
    return found[1], found[2]


def _unpacked(archive: ZipFile, entry: ZipInfo, file: Path, largest: int) -> bytes:
    """The bytes of `entry`. What it says of its size bounds what is unpacked, and is not believed."""
    if entry.flag_bits & 1 or entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise WindtunnelError(f"{file}: {entry.filename} is encrypted, or not compressed by deflate: pack the archive again")
    if entry.file_size > largest:
        held = f"one second of {SAMPLE_RATE} Hz has fewer" if largest == MAX_WAV else f"at most {largest} are read"
        raise WindtunnelError(f"{file}: {entry.filename} has {entry.file_size} bytes: {held}")
    with archive.open(entry) as stream:
        return stream.read(largest)
