"""Small archives of recordings that nobody has said."""

import wave
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from windtunnel.data.clips import WORDS

Entries = dict[str, bytes]


def noise(seed: int, samples: int = 8000) -> np.ndarray:
    """int16 (N)."""
    return np.random.default_rng(seed).integers(-3000, 3000, samples).astype(np.int16)


def wav(samples: np.ndarray, rate: int = 16_000, channels: int = 1) -> bytes:
    content = BytesIO()
    with wave.open(content, "wb") as stream:
        stream.setparams((channels, samples.itemsize, rate, 0, "NONE", ""))
        stream.writeframes(samples.tobytes())
    return content.getvalue()


def recordings(speakers: tuple[str, ...] = ("00b01445", "fe1916ba"), seed: int = 0) -> Entries:
    """A recording of each word by each speaker: WAVs by their names in an archive."""
    return {
        f"mini_speech_commands/{word}/{speaker}_nohash_0.wav": wav(noise(seed + 100 * number + label))
        for number, speaker in enumerate(speakers)
        for label, word in enumerate(WORDS)
    }


def zipped(entries: Entries, compression: int = ZIP_DEFLATED) -> bytes:
    content = BytesIO()
    with ZipFile(content, "w", compression) as archive:
        for name, recording in entries.items():
            archive.writestr(name, recording)
    return content.getvalue()
