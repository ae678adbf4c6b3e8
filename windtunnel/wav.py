"""WAV files: one channel of 16 bits at 16 kHz, a second at most, read and written with Python's own `wave`."""

import io
import wave
from pathlib import Path

import numpy as np

from windtunnel.clips import CLIP_SAMPLES, SAMPLE_RATE, as_clip
from windtunnel.errors import WindtunnelError

_CONVERT = "convert it: ffmpeg -i FILE -t 1 -ac 1 -ar 16000 -c:a pcm_s16le clip.wav"


def read_wav(content: bytes, called: str = "the recording") -> np.ndarray:
    """The samples of a WAV file, int16 (N), with N from 1 to CLIP_SAMPLES; `called` is its name, for the message.

    How long a recording is, its samples tell, not its header: who writes into a pipe does not know the length when the header is due.

    Raises:
        WindtunnelError: it is no WAV file, has another rate, width or number of channels, no sample, or more than a second of them.
    """
    if not content:
        raise WindtunnelError(f"{called} is empty: give a WAV file")
    try:
        with wave.open(io.BytesIO(content)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk that ends outside the one it is in
        why = str(error) or "it ends too early"
        raise WindtunnelError(f"{called} is no WAV file of integers, beginning with {content[:8]!r} ({why}): {_CONVERT}") from error
    for name, found, wanted in (("Hz", rate, SAMPLE_RATE), ("channels", channels, 1), ("bits a sample", 8 * width, 16)):
        if found != wanted:
            raise WindtunnelError(f"{called} has {found} {name}, not {wanted}: {_CONVERT}")
    samples = np.frombuffer(data[: len(data) // width * width], "<i2").astype(np.int16)
    if not 1 <= len(samples) <= CLIP_SAMPLES:
        raise WindtunnelError(f"{called} lasts {len(samples) / SAMPLE_RATE:g} s, not up to 1 s: record one word, or cut it out")
    return samples


def read_clip(file: Path) -> np.ndarray:
    """The clip in a WAV file, as a model takes it: float32 (1,16000).

    Raises:
        WindtunnelError: it cannot be read, or `read_wav` says what is wrong with it.
    """
    try:
        return as_clip(read_wav(file.read_bytes()))[None]
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
