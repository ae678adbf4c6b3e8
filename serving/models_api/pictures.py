"""Samples as data URIs, which a page shows without another request."""

from base64 import b64encode
from io import BytesIO

import numpy as np
from PIL import Image

from windtunnel.data.clips import as_pcm
from windtunnel.data.wav import wav_bytes
from windtunnel.model import Model

AUDIO_READER = "windtunnel.data.wav:read_clips"
"""The reader of inputs that are recordings: nothing else in a declaration says that the numbers are sound."""


def is_audio(model: Model) -> bool:
    """Return whether a model takes recordings."""
    return model.input.reader == AUDIO_READER


def image_uri(model: Model, sample: np.ndarray) -> str | None:
    """Return a sample, (height, width, channels) of pixels 0..255, as a PNG; None if the model does not take images."""
    return picture(sample) if model.input.codec == "image" else None


def audio_uri(model: Model, sample: np.ndarray) -> str | None:
    """Return a sample, (N) in -1..1, as a WAV; None if the model does not take recordings."""
    return _uri("audio/wav", wav_bytes(as_pcm(sample))) if is_audio(model) else None


def picture(pixels: np.ndarray) -> str:
    """Return pixels 0..255, (height, width), (height, width, 1) or (height, width, 3), as a PNG."""
    stream = BytesIO()
    shown = pixels.astype(np.uint8)
    Image.fromarray(shown[..., 0] if shown.shape[2:] == (1,) else shown).save(stream, "PNG")
    return _uri("image/png", stream.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
