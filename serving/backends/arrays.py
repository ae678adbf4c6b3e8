"""Read arrays from files in the form that a served model takes: the `reader` of inputs with the codec `array`.

The rules are those of TorchServe's handler and are implemented there, because the handler must be self-contained in every archive.
"""

from pathlib import Path

import numpy as np

from serving.backends.torchserve.handler import BadRequest, Decoder, make_decoder
from windtunnel.errors import WindtunnelError
from windtunnel.model import Input

LARGEST = 64 << 20  # bytes: more than the largest accepted picture, array or IDX file
KINDS = "an .npy or JSON"


def read_arrays(file: Path, model_input: Input) -> np.ndarray:
    """Read the samples in an `.npy` or a JSON file. Its first bytes decide what it is, not its name.

    Returns:
        float32 (N, shape).

    Raises:
        WindtunnelError: the file cannot be read, has an unknown format, or does not contain samples of the input's shape.
    """
    return decode_content(file, read_content(file, KINDS), make_decoder(model_input.codec, model_input.shape))


def read_content(file: Path, kinds: str) -> bytes:
    """Return the content of a file that should be one of `kinds`.

    Raises:
        WindtunnelError: it cannot be read, is empty or is too large.
    """
    try:
        if not file.is_file():
            raise WindtunnelError(f"{file} is {'not a file' if file.exists() else 'missing'}: expected {kinds}")
        if (size := file.stat().st_size) > LARGEST:
            raise WindtunnelError(f"{file} is too large: found {size} bytes, expected at most {LARGEST}. Give {kinds}")
        content = file.read_bytes()
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}): expected {kinds}") from error
    if not content:
        raise WindtunnelError(f"{file} is empty: expected {kinds}")
    return content


def decode_content(file: Path, content: bytes, decoder: Decoder) -> np.ndarray:
    """Decode the content of a file as if it were a request.

    Returns:
        float32 (N, shape).

    Raises:
        WindtunnelError: the decoder rejects it.
    """
    try:
        return decoder.batch(decoder.decode(content))
    except BadRequest as error:
        raise WindtunnelError(f"{file}: {error}") from error
