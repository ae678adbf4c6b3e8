"""Read the images in files, as a served model takes them.

A picture is read by the rule of TorchServe's handler (`serving/torchserve/handler.py`, which has to stand alone in every archive):
transparency is laid on black, colour becomes luma (ITU-R 601-2), and what is not 28×28 is scaled to it.
"""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from windtunnel.errors import WindtunnelError
from windtunnel.idx import SIDE, read_idx

IMAGES = 1024  # what TorchServe's handler takes in one request
PIXELS = 1 << 22  # of a picture, as in the handler
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
KINDS = "a PNG, a JPEG, an .npy or an IDX file"


def read_images(file: Path) -> np.ndarray:
    """The images in a file: one in a PNG or JPEG, all in an `.npy`, the first 1,024 in an IDX file, plain or `.gz`.

    Returns:
        float32 (N,28,28,1), pixels 0..255.

    Raises:
        WindtunnelError: the file is missing, is of no known kind, or does not hold what it should.
    """
    if not file.is_file():
        raise WindtunnelError(f"{file} is {'not a file' if file.exists() else 'missing'}: give {KINDS}")
    if file.suffix.lower() in PICTURES:
        return _picture(file)[None, :, :, None]
    if file.suffix.lower() == ".npy":
        return _array(file)
    if "idx" in file.name:
        images, _ = read_idx(file)
        if images.ndim != 3:
            raise WindtunnelError(f"{file} holds labels, not images: give the IDX file of the images")
        return images[:IMAGES, :, :, None].astype(np.float32)
    raise WindtunnelError(f"{file} is of no known kind: give {KINDS}, whose name ends in .png, .jpg or .npy, or has idx in it")


def _picture(file: Path) -> np.ndarray:
    """A picture as float32 (28,28)."""
    try:
        picture: Image.Image = Image.open(file, formats=(PICTURES[file.suffix.lower()],))  # reads the header alone
        with picture:
            width, height = picture.size
            if width * height > PIXELS:
                raise WindtunnelError(f"{file} has {width}×{height} pixels, more than {PIXELS}: scale it down, {SIDE}×{SIDE} is enough")
            return np.asarray(_grey(picture).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: Pillow's word for a broken PNG
        raise WindtunnelError(f"{file} cannot be decoded ({error}): give a whole picture") from error


def _grey(picture: Image.Image) -> Image.Image:
    """A picture in 256 shades."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("L")
    if picture.mode.startswith("I"):  # 16 bits
        return Image.fromarray((np.asarray(picture, np.uint32) // 257).astype(np.uint8))
    return picture.convert("L")


def _array(file: Path) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False, mmap_mode="r")  # what the header promises is checked before it is read
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile) as error:
        raise WindtunnelError(f"{file} cannot be read ({error}): write it with numpy.save") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
        raise WindtunnelError(f"{file} holds {getattr(array, 'dtype', 'an archive')}, not numbers: give pixels 0..255")
    images = array[None] if array.shape in ((SIDE, SIDE), (SIDE, SIDE, 1)) else array
    if images.shape[1:] not in ((SIDE, SIDE), (SIDE, SIDE, 1)) or not 0 < len(images) <= IMAGES:
        raise WindtunnelError(f"{file} has shape {array.shape}: give ({SIDE},{SIDE}) or (N,{SIDE},{SIDE}), N from 1 to {IMAGES}")
    if not ((images >= 0) & (images <= 255)).all():  # no comparison with NaN holds
        raise WindtunnelError(f"{file} has pixels from {images.min()} to {images.max()}: give numbers from 0 to 255")
    return np.asarray(images, np.float32).reshape(-1, SIDE, SIDE, 1)
