"""Read images from files in the form that a served model takes: the `reader` of inputs with the codec `image`."""

from pathlib import Path

import numpy as np

from serving.backends.arrays import decode_content, read_content
from serving.backends.torchserve.handler import SAMPLES, make_decoder
from windtunnel.data.idx import SIDE, read_idx
from windtunnel.errors import WindtunnelError
from windtunnel.model import Input

KINDS = "a PNG, a JPEG, an .npy or an IDX file"
IDX, GZIP = b"\0\0\x08", b"\x1f\x8b"
BRIGHT = 128
"""The mean of the pixels at an image's border from which its background counts as bright. No image of MNIST and Fashion-MNIST has it."""


def read_images(file: Path, model_input: Input) -> np.ndarray:
    """Read the images in a file: one from a PNG or JPEG, all from an `.npy` or JSON, the first 1,024 from an IDX file, plain or `.gz`.

    The file's first bytes decide what it is, not its name.

    Returns:
        float32 (N, height, width, channels), pixels 0..255.

    Raises:
        WindtunnelError: the file cannot be read, has an unknown format, or does not contain images of the input's shape.
    """
    content = read_content(file, KINDS)
    if not content.startswith((IDX, GZIP)):
        return decode_content(file, content, make_decoder(model_input.codec, model_input.shape))
    images, _ = read_idx(file)
    if images.ndim != 3:
        raise WindtunnelError(f"{file} contains labels, expected images. Give the IDX file of the images")
    if model_input.shape != (SIDE, SIDE, 1):
        raise WindtunnelError(
            f"{file} contains images of {SIDE}x{SIDE}, expected the shape {model_input.shape}. Give a PNG, a JPEG or an .npy"
        )
    return images[:SAMPLES, :, :, None].astype(np.float32)


def reversed_images(samples: np.ndarray, model_input: Input) -> str | None:
    """Return a warning if images, (N, height, width, channels), have a bright background and the model takes a dark one; otherwise None.

    They are answered nevertheless, and their answers look as certain as any.
    """
    if not model_input.dark_background:
        return None
    inner = np.zeros(samples.shape[1:3], bool)
    inner[1:-1, 1:-1] = True
    count = int((samples[:, ~inner].reshape(len(samples), -1).mean(axis=1) >= BRIGHT).sum())
    if count == 0:
        return None
    which = "the image has" if len(samples) == 1 else f"{count} of {len(samples)} images have"
    return f"{which} a bright background, but the model knows bright shapes on a dark one: the answer is probably wrong. Invert the colours"
