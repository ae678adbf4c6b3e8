import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from serving.images import read_images
from serving.torchserve.handler import decode
from tests.job import write_idx
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT

DIGIT = np.random.default_rng(3).integers(0, 256, (28, 28), np.uint8)


def picture(mode, size=(28, 28)):
    values = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 4), np.uint8)
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    image = Image.fromarray(values, "RGBA")
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def test_a_grey_png_is_its_pixels(tmp_path):
    file = tmp_path / "digit.png"
    Image.fromarray(DIGIT).save(file)
    images = read_images(file)
    assert (images.shape, images.dtype) == ((1, 28, 28, 1), np.float32)
    assert np.array_equal(images[0, :, :, 0], DIGIT)


@pytest.mark.parametrize("size", [(28, 28), (56, 84), (20, 31), (1, 1)])
@pytest.mark.parametrize(("mode", "suffix"), [(mode, ".png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")] + [("CMYK", ".JPG")])
def test_a_picture_is_read_as_torchserves_handler_reads_it(tmp_path, mode, suffix, size):
    file = tmp_path / f"digit{suffix}"
    picture(mode, size).save(file, "PNG" if suffix == ".png" else "JPEG")
    images = read_images(file)
    assert images.shape == (1, 28, 28, 1)
    assert np.array_equal(images[0], decode(file.read_bytes()))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (3, 28, 28), (3, 28, 28, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_arrays(tmp_path, shape, dtype):
    array = np.random.default_rng(1).integers(0, 256, shape).astype(dtype)
    np.save(tmp_path / "digits.npy", array)
    images = read_images(tmp_path / "digits.npy")
    assert (images.shape, images.dtype) == ((3 if shape[0] == 3 else 1, 28, 28, 1), np.float32)
    assert np.array_equal(images.ravel(), array.ravel())


def test_an_idx_file_gives_its_first_images(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (1030, 28, 28))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", pixels)
    images = read_images(tmp_path / "t10k-images-idx3-ubyte")
    assert (images.shape, images.dtype) == ((1024, 28, 28, 1), np.float32)
    assert np.array_equal(images[..., 0], pixels[:1024])


def png_of(width, height):
    """A whole PNG of any size in a few bytes: what its header promises is zeros."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(height * (1 + width // 8)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


PNG = png_of(28, 28)
PROMISE = npy(np.zeros((2, 28, 28))).replace(b"(2, 28, 28)", b"(9999999,1)")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.png", png_of(8192, 4096), "has 8192×4096 pixels, more than 4194304: scale it down"),
        ("a.png", PNG[:40], "cannot be decoded"),
        ("a.png", b"", "cannot be decoded"),
        ("a.png", b"GIF89a", "cannot be decoded"),
        ("a.jpg", PNG, "cannot be decoded"),
        ("a.npy", b"", "cannot be read"),
        ("a.npy", npy(np.zeros((28, 28)))[:-8], "cannot be read"),
        ("a.npy", npy(np.array([{}]), allow_pickle=True), "cannot be read"),
        ("a.npy", PROMISE, "cannot be read"),
        ("a.npy", npy(np.zeros((27, 28))), "has shape (27, 28): give (28,28)"),
        ("a.npy", npy(np.zeros((0, 28, 28))), "has shape (0, 28, 28)"),
        ("a.npy", npy(np.zeros((1025, 28, 28), np.uint8)), "has shape (1025, 28, 28)"),
        ("a.npy", npy(np.full((28, 28), np.nan)), "has pixels from nan to nan"),
        ("a.npy", npy(np.full((28, 28), 256)), "has pixels from 256 to 256"),
        ("a.npy", npy(np.full((28, 28), "7")), "holds <U1, not numbers"),
        ("t10k-labels-idx1-ubyte", bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]), "holds labels"),
        ("x-idx3-ubyte", b"", "is not IDX images"),
        ("a.txt", b"7", "is of no known kind"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WindtunnelError) as caught:
        read_images(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name} ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(WindtunnelError, match=r"digit\.png is missing"):
        read_images(tmp_path / "digit.png")
    with pytest.raises(WindtunnelError, match="is not a file"):
        read_images(tmp_path)


def test_reading_needs_no_framework():
    code = "import sys, serving.images; print({'torch', 'tensorflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "set()\n"
