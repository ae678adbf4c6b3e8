"""Read and write WAV files of one channel, 16 bits, 16 kHz and at most a second, with Python's `wave`. Convert other WAV files."""

import io
import math
import struct
import sys
import warnings
import wave
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.data.clips import CLIP_SAMPLES, FULL_SCALE, SAMPLE_RATE, as_clip
from windtunnel.errors import WindtunnelError

if TYPE_CHECKING:  # it would take longer to import than everything else here
    from windtunnel.model import Input

RATES = range(1000, 400_001)
"""The sample rates that are converted, in Hz. All rates used to record people are within this range."""

MOST_STEPS = 20_000
"""The largest divisor of a conversion: it is 441 for 44.1 kHz. The filter has 20 times as many numbers: for 399,999 Hz it takes 400 MB."""

_EXTENSIBLE, _PCM = b"\xfe\xff", b"\1\0"  # format tags; the first means that the real format is in a GUID
_PCM_GUID = _PCM + bytes.fromhex("0000000010008000 00aa00389b71")
_CONVERT = "Convert it: ffmpeg -i FILE -t 1 -ac 1 -ar 16000 -c:a pcm_s16le clip.wav"


def read_wav(content: bytes, called: str = "the recording", expected_rate: int = SAMPLE_RATE, seconds: int = 1) -> np.ndarray:
    """Return the samples of a WAV file, int16 (N), at least one and at most `seconds` long. `called` is its name for error messages.

    The length is that of the samples, not that in the header: a program that writes into a pipe does not know the length in advance.

    Raises:
        WindtunnelError: it is not a WAV file; its rate, width or number of channels is wrong; or it is empty or too long.
    """
    if not content:
        raise WindtunnelError(f"{called} is empty: use a WAV file")
    try:
        with wave.open(io.BytesIO(_plain(content))) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk that ends outside the one it is in
        why = str(error) or "the file is truncated"
        raise WindtunnelError(f"{called} is not a WAV file of integers: it begins with {content[:8]!r} ({why}). {_CONVERT}") from error
    for name, found, wanted in (("Hz", rate, expected_rate), ("channels", channels, 1), ("bits per sample", 8 * width, 16)):
        if found != wanted:
            remedy = _CONVERT if expected_rate == SAMPLE_RATE else "Convert it, or correct its manifest"
            raise WindtunnelError(f"{called}: found {found} {name}, expected {wanted}. {remedy}")
    samples = np.frombuffer(data[: len(data) // width * width], "<i2").astype(np.int16)
    if not 1 <= len(samples) <= seconds * rate:
        raise WindtunnelError(f"{called} has a wrong length: {_wrong_length(len(samples) / rate, seconds)}")
    return samples


def _wrong_length(found: float, most: int) -> str:
    return f"found {found:g} s, expected more than 0 and at most {most} s. Record one word, or cut it out"


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample samples (N) from `rate` Hz to SAMPLE_RATE, float64 (M), and clip them to the input's maximum, which filters exceed."""
    from scipy.signal import resample_poly

    common, loudest = math.gcd(rate, SAMPLE_RATE), np.abs(samples.astype(np.float64)).max()
    up, down = SAMPLE_RATE // common, rate // common
    return resample_poly(samples.astype(np.float64), up, down, window=_low_pass(max(up, down))).clip(-loudest, loudest)


@lru_cache(maxsize=1)  # for a high rate the filter is large
def _low_pass(factor: int) -> np.ndarray:
    """Return the filter of `resample_poly`, which would design it for each recording; that takes longer than applying it."""
    from scipy.signal import firwin

    return firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0))


def one_second(samples: np.ndarray, rate: int) -> np.ndarray:
    """Convert a 16-bit recording, int16 (N) of `rate` Hz, to int16 (M) of SAMPLE_RATE, with M up to CLIP_SAMPLES.

    Of a longer recording, return the second with the most energy: it contains the word, without silence and breath around it.
    """
    if rate != SAMPLE_RATE:
        samples = np.rint(resample(samples, rate)).clip(-FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    if len(samples) <= CLIP_SAMPLES:
        return samples
    energy = np.concatenate([[0], np.cumsum(samples.astype(np.int64) ** 2)])
    start = int((energy[CLIP_SAMPLES:] - energy[:-CLIP_SAMPLES]).argmax())
    return samples[start : start + CLIP_SAMPLES]


def convert_wav(content: bytes) -> tuple[np.ndarray, str]:
    """Read a WAV file of any rate, width and number of channels.

    Returns:
        The samples, int16 (N) from `read_wav`, else float32 (N); and a message if they were resampled or mixed down, else "".

    Raises:
        WindtunnelError: SciPy cannot read the file either, or it is empty or longer than a second.
    """
    try:
        return read_wav(content), ""
    except WindtunnelError:
        if (decoded := _decoded(content)) is None:
            raise
    rate, samples = decoded
    length, channels = samples.shape
    if not 1 <= length <= rate:
        raise WindtunnelError(f"the recording has a wrong length: {_wrong_length(length / rate, 1)}")
    mixed = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        mixed = resample(mixed, rate)[:CLIP_SAMPLES]
    said = f"the recording has {rate} Hz and {channels} channels: converting it to {SAMPLE_RATE} Hz and one channel"
    return mixed.astype(np.float32), said if (rate, channels) != (SAMPLE_RATE, 1) else ""


def _decoded(content: bytes) -> tuple[int, np.ndarray] | None:
    """Read a WAV file with SciPy: the rate and the samples, float64 (N, channels), with integers as -1..1; None if it cannot."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings(action="ignore"):  # about unknown chunks
            rate, samples = wavfile.read(io.BytesIO(_plain(content)))
    except Exception:  # SciPy's exceptions have no common base class
        return None
    if rate not in RATES or rate // math.gcd(rate, SAMPLE_RATE) > MOST_STEPS:
        return None
    samples = samples[:, None] if samples.ndim == 1 else samples
    if samples.dtype == np.uint8:
        return rate, (samples.astype(np.float64) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return rate, samples / -float(np.iinfo(samples.dtype).min)
    return rate, samples.astype(np.float64)


def _plain(content: bytes) -> bytes:
    """Normalise the header of a WAV file: fill in unknown sizes, and turn extensible PCM into PCM.

    `wave` of Python 3.11 does not read WAVE_FORMAT_EXTENSIBLE, which ffmpeg and audio workstations write. A recorder that writes into a
    pipe leaves the sizes at 0, or at their values without samples.
    """
    if not content.startswith(b"RIFF") or len(content) < 12:
        return content
    plain = bytearray(content)
    struct.pack_into("<I", plain, 4, len(content) - 8)
    for name, start, size in _chunks(content, 12):
        if name == b"fmt " and content[start : start + 2] == _EXTENSIBLE and content[start + 24 : start + 40] == _PCM_GUID:
            plain[start : start + 2] = _PCM
        if name == b"data":
            left = len(content) - start
            if size > left or (size == 0 and not _only_chunks(content, start)):
                struct.pack_into("<I", plain, start - 4, left)
            break
    return bytes(plain)


def _only_chunks(content: bytes, place: int) -> bool:
    """Whether everything from `place` to the end is chunks, such as a title, and not samples."""
    end = place
    for name, start, size in _chunks(content, place):
        if not (name.isascii() and name.decode().isprintable()):
            return False
        end = start + size
    return len(content) - end in (0, 1)  # a chunk of odd size is padded


def _chunks(content: bytes, place: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and size of each chunk from `place` on, according to its header."""
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        yield name, place + 8, size
        place += 8 + size + size % 2


def read_clip(file: Path, say: Callable[[str], None] = lambda line: None) -> np.ndarray:
    """Read a WAV file as the input of a model: float32 (1,16000).

    Args:
        file: a WAV file of any rate, width and number of channels.
        say: called with a message if the file is converted.

    Raises:
        WindtunnelError: the file cannot be read, or `convert_wav` rejects it.
    """
    try:
        samples, said = convert_wav(file.read_bytes())
        if said:
            say(f"{file}: {said}")
        return as_clip(samples)[None]
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read: {error.strerror}") from error


def read_clips(file: Path, model_input: "Input") -> np.ndarray:
    """Read a WAV file as `read_clip` does, for `windtunnel predict`; say on stderr if it is converted."""
    return read_clip(file, say=lambda line: print(line, file=sys.stderr))


def wav_bytes(pcm: np.ndarray) -> bytes:
    """Return the content of a WAV file with the samples `pcm`, int16 (N)."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.astype("<i2").tobytes())
    return stream.getvalue()
