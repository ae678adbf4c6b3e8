"""Read IDX, the file format of MNIST and similar data sets.

The format is described at http://yann.lecun.com/exdb/mnist: two zero bytes, the element type (8: unsigned byte), the number of
dimensions, each dimension as a big-endian 32-bit integer, then the elements in C order.
"""

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from windtunnel.errors import WindtunnelError

IMAGES, LABELS = 0x00000803, 0x00000801
SIDE = 28
# The largest expected file, MNIST's training images, has 45 MiB. A file whose header states more than this is rejected.
MAX_BYTES = 64 * 2**20


def read_idx(file: Path) -> tuple[np.ndarray, str]:
    """Read the images or labels in `file`, or in its first alternative name that exists (see `stored`).

    Returns:
        The pixels, uint8 (N,28,28), or the labels, uint8 (N); and the SHA-256 of the file's uncompressed bytes.

    Raises:
        WindtunnelError: the file is missing, cannot be decompressed, is not IDX, or does not match its header.
    """
    try:
        found = stored(file)
        if found is None:
            raise WindtunnelError(f"{file} is missing, and so is {file.name}.gz: put one of them there")
        file = found
        with _open(file) as stream:
            return _parse(stream, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WindtunnelError(f"{file} is truncated or is not gzip ({error}): delete it and download it again") from error
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read: {error.strerror}") from error


def stored(file: Path) -> Path | None:
    """Return the first of these that exists, or None: `file`, `file.gz`, and both with Kaggle's name, `x.idx3-ubyte` for `x-idx3-ubyte`."""
    names = (file.name, file.name.replace("-idx", ".idx"))
    candidates = (file.with_name(name + ending) for name in names for ending in ("", ".gz"))
    # os.path.isfile, because Path.is_file raises if a directory cannot be entered
    return next(filter(os.path.isfile, candidates), None)


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _parse(stream: BinaryIO, file: Path) -> tuple[np.ndarray, str]:
    header = stream.read(4)
    magic = int.from_bytes(header)
    if len(header) < 4 or magic not in (IMAGES, LABELS):
        expected = f"{IMAGES:#010x} (images) or {LABELS:#010x} (labels)"
        raise WindtunnelError(f"{file} is not an IDX file: found 0x{header.hex()} at its start, expected {expected}")
    dimensions = magic & 0xFF
    rest = stream.read(4 * dimensions)
    if len(rest) < 4 * dimensions:
        raise WindtunnelError(f"{file} ends within its header, after {4 + len(rest)} bytes: delete it and download it again")
    shape = struct.unpack(f">{dimensions}I", rest)
    size = math.prod(shape)
    if shape[1:] not in ((), (SIDE, SIDE)) or not 0 < size <= MAX_BYTES:
        expected = f"(N, {SIDE}, {SIDE}) for images or (N) for labels, with 1 to {MAX_BYTES} bytes"
        raise WindtunnelError(f"{file} has a wrong shape: found {shape}, expected {expected}")
    content = stream.read(size + 1)  # one more byte detects a file that is too long, and makes gzip verify its checksum
    if len(content) != size:
        amount = "more" if len(content) > size else f"{len(content)}"
        raise WindtunnelError(f"{file}: found {amount} bytes after its header, expected {size}. Delete it and download it again")
    digest = hashlib.sha256(header + rest)
    digest.update(content)
    # A bytearray makes the array writable: PyTorch warns about arrays that are not.
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape), digest.hexdigest()
