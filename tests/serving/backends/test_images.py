import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from serving.backends import images as reader
from serving.backends.torchserve.handler import make_decoder
from tests.job import write_idx
from train_server.lenet5.model import LENET5
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT

decode = make_decoder("image", LENET5.input.shape).decode
DIGIT = np.random.default_rng(3).integers(0, 256, (28, 28), np.uint8)


def read_images(file):
    return reader.read_images(file, LENET5.input)


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


@pytest.mark.parametrize("size", [(28, 28), (56, 84), (20, 31), (3, 2)])
@pytest.mark.parametrize(("mode", "suffix"), [(mode, ".png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")] + [("CMYK", ".JPG")])
def test_a_picture_is_read_as_torchserves_handler_reads_it(tmp_path, mode, suffix, size):
    file = tmp_path / f"digit{suffix}"
    picture(mode, size).save(file, "PNG" if suffix == ".png" else "JPEG")
    images = read_images(file)
    assert images.shape == (1, 28, 28, 1)
    assert np.array_equal(images[0], decode(file.read_bytes()))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "npy", "JSON"])
@pytest.mark.parametrize("name", ["digit.png", "digit.JPG", "digit.npy", "digit", "idx.txt", "7.gz"])
def test_what_a_file_is_its_first_bytes_tell(tmp_path, kind, name):
    body = {"npy": npy(DIGIT), "JSON": json.dumps(DIGIT.tolist()).encode()}.get(kind)
    if body is None:
        stream = io.BytesIO()
        Image.fromarray(DIGIT).save(stream, kind)
        body = stream.getvalue()
    (tmp_path / name).write_bytes(body)
    assert np.array_equal(read_images(tmp_path / name)[0], decode(body))


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
        ("a.png", png_of(8192, 4096), "the PNG is too large (8192x4096 pixels): expected at most 4194304 pixels. Scale it down"),
        ("a.png", PNG[:40], "cannot be decoded"),
        ("a.png", b"", "is empty: expected a PNG, a JPEG, an .npy or an IDX file"),
        ("a.png", b"GIF89a", "unknown format: found 6 bytes that begin with b'GIF89a'. Send PNG, JPEG"),
        ("a.png", png_of(32, 32), "the PNG has only one shade, 0"),
        ("a.npy", b"", "is empty"),
        ("a.npy", npy(np.zeros((28, 28)))[:-8], "cannot be read"),
        ("a.npy", npy(np.array([{}]), allow_pickle=True), "cannot be read"),
        ("a.npy", PROMISE, "cannot be read"),
        ("a.npy", npy(np.zeros((27, 28))), "wrong shape: found (27, 28), expected (28,28)"),
        ("a.npy", npy(np.zeros((0, 28, 28))), "wrong shape: found (0, 28, 28)"),
        ("a.npy", npy(np.zeros((1025, 28, 28), np.uint8)), "wrong shape: found (1025, 28, 28)"),
        ("a.npy", npy(np.full((28, 28), np.nan)), "the pixels are out of range: found nan to nan"),
        ("a.npy", npy(np.full((28, 28), 256)), "the pixels are out of range: found 256 to 256"),
        ("a.npy", npy(np.full((28, 28), "7")), "the pixels have the wrong type: found <U1, expected numbers"),
        ("t10k-labels-idx1-ubyte", bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]), "contains labels"),
        ("x-idx3-ubyte", b"\0\0\x08\x05", "is not an IDX file"),
        ("x-idx3-ubyte.gz", b"\x1f\x8b", "is truncated or is not gzip"),
        ("a.txt", b"7", "unknown format: found 1 bytes that begin with b'7'. Send PNG"),
        ("a.npy", npy(DIGIT / 255), "found 0..1, expected 0..255"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WindtunnelError) as caught:
        read_images(tmp_path / name)
    assert str(caught.value).startswith((f"{tmp_path / name} ", f"{tmp_path / name}: "))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(WindtunnelError, match=r"digit\.png is missing"):
        read_images(tmp_path / "digit.png")
    with pytest.raises(WindtunnelError, match="is not a file"):
        read_images(tmp_path)


def test_a_file_too_large_to_hold_images_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(WindtunnelError, match=r"a\.png is too large: found 1099511627776 bytes, expected at most 67108864"):
        read_images(tmp_path / "a.png")


def test_reading_needs_no_framework():
    code = "import sys, serving.backends.images; print({'torch', 'tensorflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "set()\n"
