"""Read spoken words: a zip of WAVs, laid out as the Speech Commands are, or a folder of them. Nothing is unpacked onto the disk.

The layout is described in arXiv 1804.03209: a recording is `FOLDER/WORD/SPEAKER_nohash_N.wav`, where eight hexadecimal digits stand for
the speaker and N counts the times that speaker has said the word.
"""

import functools
import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from windtunnel.clips import CLIP_SAMPLES, SAMPLE_RATE, WORDS
from windtunnel.errors import WindtunnelError
from windtunnel.wav import read_wav

# TensorFlow's archive has 174 MiB and 8,000 recordings, one second as WAV 32,044 bytes. What is larger is something else.
MAX_BYTES = 512 * 2**20
MAX_RECORDINGS = 20_000
MAX_WAV = 64 * 2**10
RECORDING = re.compile(rf"[a-z_]+/({'|'.join(WORDS)})/([0-9a-f]{{8}})_nohash_[0-9]+\.wav")


class Recorded(NamedTuple):
    """What an archive or a folder holds, in the order of words and file names: N recordings, no two of the same samples.

    `clips` is int16 (N,16000), zeros after what is shorter, `labels` uint8 (N), an index into WORDS, `speakers` str (N), and `digest` the
    SHA-256 of the list of words, file names and SHA-256 of samples: the same however the archive is packed.
    """

    clips: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    digest: str


class _Found(NamedTuple):
    """A recording: its word, the path of its file, who speaks, and what reads its bytes."""

    word: str
    path: str
    speaker: str
    read: Callable[[], bytes]

    @property
    def name(self) -> str:
        """The file's name alone."""
        return self.path.rpartition("/")[2]


def read_folder(folder: Path) -> Recorded:
    """Read every recording `WORD/NAME.wav` below `folder`, such as an archive that was unpacked.

    A file whose name tells no speaker, as the Speech Commands' do, is of a speaker of its own.

    Raises:
        WindtunnelError: a file cannot be read or is no recording, or there is none of some word.
    """
    try:
        found = (_Found(word, f"{word}/{file.name}", _speaker(word, file), file.read_bytes) for word, file in word_files(folder))
        return _collect(list(found), folder)
    except OSError as error:
        raise WindtunnelError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error


def word_files(folder: Path) -> list[tuple[str, Path]]:
    """The files `WORD/NAME.wav` below `folder` with their words, in the order of WORDS and then of names."""
    return [(word, file) for word in WORDS for file in sorted((folder / word).glob("[!.]*.[wW][aA][vV]"))]


def _speaker(word: str, file: Path) -> str:
    found = RECORDING.fullmatch(f"folder/{word}/{file.name}")
    return found[2] if found is not None else hashlib.sha256(file.name.encode()).hexdigest()[:8]


def read_archive(file: Path) -> Recorded:
    """Read every recording in the zip `file`. What is no WAV, and what macOS adds to a zip, is passed over.

    Raises:
        WindtunnelError: the file cannot be read, is damaged or too large, holds a WAV that is no recording of a known word, or of some
            word none.
    """
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise WindtunnelError(f"{file} has {size} bytes: an archive of recordings has at most {MAX_BYTES}; get the right one")
        with ZipFile(file) as archive:
            return _read(archive, file)
    except (BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError) as error:
        raise WindtunnelError(f"{file} is truncated or is not a zip ({error}): delete it and get it again") from error
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read: {error.strerror or error}") from error


def _read(archive: ZipFile, file: Path) -> Recorded:
    found = []
    for entry in filter(lambda entry: _is_wav(entry.filename), archive.infolist()):
        word, speaker = _named(entry.filename, file)
        found.append(_Found(word, entry.filename, speaker, functools.partial(_unpacked, archive, entry, file)))
    return _collect(found, file)


def _collect(found: Sequence[_Found], place: Path) -> Recorded:
    if len(found) > MAX_RECORDINGS:
        raise WindtunnelError(f"{place} holds {len(found)} recordings: at most {MAX_RECORDINGS} are read; leave some out")
    clips = np.zeros((len(found), CLIP_SAMPLES), np.int16)
    labels, speakers = np.zeros(len(found), np.uint8), np.zeros(len(found), "<U8")
    listing = hashlib.sha256()
    seen: set[str] = set()
    for each in sorted(found, key=lambda each: (each.word, each.name)):
        samples = read_wav(each.read(), f"{place}: {each.path}")
        digest = hashlib.sha256(samples.data).hexdigest()
        if digest not in seen:
            clips[len(seen), : len(samples)], labels[len(seen)], speakers[len(seen)] = samples, WORDS.index(each.word), each.speaker
            listing.update(f"{each.word} {each.name} {digest}\n".encode())
            seen.add(digest)
    if lacking := set(range(len(WORDS))) - set(labels[: len(seen)].tolist()):
        raise WindtunnelError(f"{place} holds no recording of {', '.join(WORDS[label] for label in sorted(lacking))}: get a complete one")
    return Recorded(clips[: len(seen)], labels[: len(seen)], speakers[: len(seen)], listing.hexdigest())


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


def _unpacked(archive: ZipFile, entry: ZipInfo, file: Path) -> bytes:
    """The bytes of `entry`. What it says of its size bounds what is unpacked, and is not believed."""
    if entry.flag_bits & 1 or entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise WindtunnelError(f"{file}: {entry.filename} is encrypted, or not compressed by deflate: pack the archive again")
    if entry.file_size > MAX_WAV:
        raise WindtunnelError(f"{file}: {entry.filename} has {entry.file_size} bytes: one second of {SAMPLE_RATE} Hz has fewer")
    with archive.open(entry) as stream:
        return stream.read(MAX_WAV)
