"""Read the images in files, as a served model takes them.

The rule is that of TorchServe's handler, and is there, since the handler has to stand alone in every archive.
"""

from pathlib import Path

import numpy as np

from serving.torchserve.handler import IMAGES, BadRequest, decode
from windtunnel.errors import WindtunnelError
from windtunnel.idx import read_idx

LARGEST = 64 << 20  # bytes: more than the largest picture, array or IDX file that is taken
KINDS = "a PNG, a JPEG, an .npy or an IDX file"
IDX, GZIP = b"\0\0\x08", b"\x1f\x8b"


def read_images(file: Path) -> np.ndarray:
    """The images in a file: one in a PNG or JPEG, all in an `.npy` or JSON, the first 1,024 in an IDX file, plain or `.gz`.

    What a file is, its first bytes tell, not its name.

    Returns:
        float32 (N,28,28,1), pixels 0..255.

    Raises:
        WindtunnelError: the file cannot be read, is of no known kind, or does not hold what it should.
    """
    try:
        if not file.is_file():
            raise WindtunnelError(f"{file} is {'not a file' if file.exists() else 'missing'}: give {KINDS}")
        if (size := file.stat().st_size) > LARGEST:
            raise WindtunnelError(f"{file} has {size} bytes, more than {LARGEST}: give {KINDS}")
        content = file.read_bytes()
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}): give {KINDS}") from error
    if not content:
        raise WindtunnelError(f"{file} is empty: give {KINDS}")
    if content.startswith((IDX, GZIP)):
        images, _ = read_idx(file)
        if images.ndim != 3:
            raise WindtunnelError(f"{file} holds labels, not images: give the IDX file of the images")
        return images[:IMAGES, :, :, None].astype(np.float32)
    try:
        images = decode(content)
    except BadRequest as error:
        raise WindtunnelError(f"{file}: {error}") from error
    return images if images.ndim == 4 else images[None]
