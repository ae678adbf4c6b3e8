"""WAV files: one channel of 16 bits at 16 kHz, a second at most, read and written with Python's own `wave`. Others are converted."""

import io
import math
import struct
import warnings
import wave
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from windtunnel.clips import CLIP_SAMPLES, FULL_SCALE, SAMPLE_RATE, as_clip
from windtunnel.errors import WindtunnelError

RATES = range(1000, 400_001)
"""Hz: the rates that are converted. Whoever records people uses one in between."""

_EXTENSIBLE, _PCM = b"\xfe\xff", b"\1\0"  # format tags; the first says that a GUID further on holds the real one
_PCM_GUID = _PCM + bytes.fromhex("0000000010008000 00aa00389b71")
_CONVERT = "convert it: ffmpeg -i FILE -t 1 -ac 1 -ar 16000 -c:a pcm_s16le clip.wav"


def read_wav(content: bytes, called: str = "the recording", expected_rate: int = SAMPLE_RATE, seconds: int = 1) -> np.ndarray:
    """The samples of a WAV file, int16 (N), with N from 1 to what `seconds` take; `called` is its name, for the message.

    How long a recording is, its samples tell, not its header: who writes into a pipe does not know the length when the header is due.

    Raises:
        WindtunnelError: it is no WAV file, has another rate, width or number of channels, no sample, or more than `seconds` of them.
    """
    if not content:
        raise WindtunnelError(f"{called} is empty: give a WAV file")
    try:
        with wave.open(io.BytesIO(_plain(content))) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk that ends outside the one it is in
        why = str(error) or "it ends too early"
        raise WindtunnelError(f"{called} is no WAV file of integers, beginning with {content[:8]!r} ({why}): {_CONVERT}") from error
    for name, found, wanted in (("Hz", rate, expected_rate), ("channels", channels, 1), ("bits a sample", 8 * width, 16)):
        if found != wanted:
            remedy = _CONVERT if expected_rate == SAMPLE_RATE else "convert it, or correct its manifest"
            raise WindtunnelError(f"{called} has {found} {name}, not {wanted}: {remedy}")
    samples = np.frombuffer(data[: len(data) // width * width], "<i2").astype(np.int16)
    if not 1 <= len(samples) <= seconds * rate:
        raise WindtunnelError(f"{called} lasts {len(samples) / rate:g} s, not up to {seconds} s: record one word, or cut it out")
    return samples


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (N) of another `rate`, in Hz, as those of SAMPLE_RATE, float64 (M); nowhere louder than before, as a filter makes them."""
    from scipy.signal import resample_poly

    common, loudest = math.gcd(rate, SAMPLE_RATE), np.abs(samples.astype(np.float64)).max()
    up, down = SAMPLE_RATE // common, rate // common
    return resample_poly(samples.astype(np.float64), up, down, window=_low_pass(max(up, down))).clip(-loudest, loudest)


@lru_cache(maxsize=1)  # of a high rate it is large
def _low_pass(factor: int) -> np.ndarray:
    """The filter that `resample_poly` would otherwise design anew for each recording, which takes it longer than to apply it."""
    from scipy.signal import firwin

    return firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0))


def one_second(samples: np.ndarray, rate: int) -> np.ndarray:
    """A recording of 16 bits, int16 (N) of `rate` Hz, as int16 (M) of SAMPLE_RATE, with M up to CLIP_SAMPLES.

    Of what is longer, the second with the most energy: a word is in it, silence and a breath before or after are not.
    """
    if rate != SAMPLE_RATE:
        samples = np.rint(resample(samples, rate)).clip(-FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    if len(samples) <= CLIP_SAMPLES:
        return samples
    energy = np.concatenate([[0], np.cumsum(samples.astype(np.int64) ** 2)])
    start = int((energy[CLIP_SAMPLES:] - energy[:-CLIP_SAMPLES]).argmax())
    return samples[start : start + CLIP_SAMPLES]


def convert_wav(content: bytes) -> tuple[np.ndarray, str]:
    """The samples of a WAV file of any rate, width and number of channels.

    Returns:
        int16 (N), as `read_wav` gives them, or else float32 (N); and in a sentence that it was resampled or mixed down, "" if it was not.

    Raises:
        WindtunnelError: SciPy does not read it either, or it has no sample, or more than a second of them.
    """
    try:
        return read_wav(content), ""
    except WindtunnelError:
        if (decoded := _decoded(content)) is None:
            raise
    rate, samples = decoded
    length, channels = samples.shape
    if not 1 <= length <= rate:
        raise WindtunnelError(f"the recording lasts {length / rate:g} s, not up to 1 s: record one word, or cut it out")
    mixed = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        mixed = resample(mixed, rate)[:CLIP_SAMPLES]
    said = f"the recording has {rate} Hz and {channels} channels: it is converted to {SAMPLE_RATE} Hz and one"
    return mixed.astype(np.float32), said if (rate, channels) != (SAMPLE_RATE, 1) else ""


def _decoded(content: bytes) -> tuple[int, np.ndarray] | None:
    """The rate and the samples of what SciPy reads, float64 (N, channels), integers as -1..1; None where it does not."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings(action="ignore"):  # of chunks that it does not know
            rate, samples = wavfile.read(io.BytesIO(_plain(content)))
    except Exception:  # SciPy's have no common base
        return None
    if rate not in RATES:
        return None
    samples = samples[:, None] if samples.ndim == 1 else samples
    if samples.dtype == np.uint8:
        return rate, (samples.astype(np.float64) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return rate, samples / -float(np.iinfo(samples.dtype).min)
    return rate, samples.astype(np.float64)


def _plain(content: bytes) -> bytes:
    """A WAV file with a header that others read: sizes that were not known are what there is, and extensible PCM is PCM.

    `wave` of Python 3.11 does not read WAVE_FORMAT_EXTENSIBLE, which ffmpeg and audio workstations write. A recorder that writes into a
    pipe leaves sizes at 0, or at what they would be without samples.
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
    """Whether what follows from `place` on is chunks up to the end, such as a title, and not samples."""
    end = place
    for name, start, size in _chunks(content, place):
        if not (name.isascii() and name.decode().isprintable()):
            return False
        end = start + size
    return len(content) - end in (0, 1)  # an odd one is padded


def _chunks(content: bytes, place: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of each chunk from `place` on, as its header gives them."""
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        yield name, place + 8, size
        place += 8 + size + size % 2


def read_clip(file: Path, say: Callable[[str], None] = lambda line: None) -> np.ndarray:
    """The clip in a WAV file, as a model takes it: float32 (1,16000).

    Args:
        file: WAV of any rate, width and number of channels.
        say: called with a line when it had to be converted.

    Raises:
        WindtunnelError: it cannot be read, or `convert_wav` says what is wrong with it.
    """
    try:
        samples, said = convert_wav(file.read_bytes())
        if said:
            say(f"{file}: {said}")
        return as_clip(samples)[None]
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read: {error.strerror}") from error


def wav_bytes(pcm: np.ndarray) -> bytes:
    """Samples, int16 (N), as the content of a WAV file."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.astype("<i2").tobytes())
    return stream.getvalue()
