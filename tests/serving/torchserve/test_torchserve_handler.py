import io
import json
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from serving.torchserve.handler import BadRequest, decode

DIGIT = np.random.default_rng(1).integers(0, 256, (28, 28), np.uint8)


def picture(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def as_json(value):
    return json.dumps(value).encode()


def refused(body):
    with pytest.raises(BadRequest) as raised:
        decode(body)
    return str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        picture(Image.fromarray(DIGIT)),
        picture(Image.fromarray(DIGIT).convert("RGB")),
        picture(Image.merge("LA", (Image.fromarray(DIGIT), Image.new("L", (28, 28), 255)))),
        picture(Image.fromarray(DIGIT.astype(np.uint16) * 257)),
        picture(Image.fromarray(DIGIT).resize((280, 280), Image.Resampling.NEAREST)),
        npy(DIGIT),
        npy(DIGIT[..., None].astype(np.float64)),
        npy(np.asfortranarray(DIGIT)),
        DIGIT.tobytes(),
        as_json(DIGIT.tolist()),
        b"\n " + as_json(DIGIT[..., None].tolist()),
    ],
    ids=["grey", "colour", "alpha", "16 bits", "large", "npy", "npy float64", "npy by column", "784 bytes", "json", "json (28,28,1)"],
)
def test_one_image_is_its_pixels(body):
    images = decode(body)
    assert (images.shape, images.dtype) == ((28, 28, 1), np.float32)
    assert np.array_equal(images[..., 0], DIGIT)


@pytest.mark.parametrize(
    "body",
    [
        npy(np.stack([DIGIT] * 3)),
        npy(np.stack([DIGIT] * 3)[..., None].astype(np.float32)),
        as_json([DIGIT.tolist()] * 3),
        as_json({"instances": [DIGIT.tolist()] * 3}),
        as_json({"instances": [DIGIT[..., None].tolist()] * 3}),
    ],
)
def test_a_batch(body):
    images = decode(body)
    assert (images.shape, images.dtype) == ((3, 28, 28, 1), np.float32)
    assert np.array_equal(images[2, ..., 0], DIGIT)


def test_one_instance_is_a_batch():
    assert decode(as_json({"instances": [DIGIT.tolist()]})).shape == (1, 28, 28, 1)


def test_colour_becomes_luma_and_transparency_black():
    red = Image.new("RGB", (28, 28), (255, 0, 0))
    assert (decode(picture(red)) == 76).all()  # 255 times 299/1000
    assert abs(decode(picture(red, "JPEG")) - 76).max() <= 1
    assert abs(decode(picture(Image.new("RGBA", (28, 28), (255, 255, 255, 100)))) - 100).max() <= 1
    assert (decode(picture(Image.new("P", (28, 28), 0), transparency=0)) == 0).all()


def test_a_large_picture_is_scaled_to_means():
    halves = np.zeros((56, 56), np.uint8)
    halves[:, 28:] = 200
    assert np.array_equal(decode(picture(Image.fromarray(halves)))[5, :, 0], [0.0] * 14 + [200.0] * 14)


def test_float32_pixels_arrive_exactly():
    pixels = np.random.default_rng(2).uniform(0, 255, (2, 28, 28, 1)).astype(np.float32)
    for body in (npy(pixels), as_json(pixels.tolist())):
        assert np.array_equal(decode(body), pixels)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows=b"", *more):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b"hello", "5 bytes that begin with b'hello' are no PNG"),
        (b"GIF89a" + bytes(100), "are no PNG"),
        (picture(Image.fromarray(DIGIT))[:200], "the PNG cannot be decoded"),
        (picture(Image.fromarray(DIGIT), "JPEG")[:100], "the JPEG cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n", "the PNG cannot be decoded"),
        (png(50_000, 50_000, bytes(1000)), "the PNG is too large"),
        (png(2049, 2048, bytes(2049 * 2048)), "(2049x2048 pixels), 4194304 pixels are the most"),
        (png(28, 28, bytes(29 * 28), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))), "the PNG cannot be decoded"),
        (npy(DIGIT)[:200], "the .npy cannot be read"),
        (npy(np.array([None])), "the .npy cannot be read"),
        (npy(DIGIT).replace(b"(28, 28)", b"(99999999999,)"), "the .npy cannot be read"),
        (npy(DIGIT.astype(str)), "not numbers"),
        (npy(DIGIT.astype(complex)), "the pixels are complex128"),
        (npy(np.zeros((28, 27))), "shape (28, 27)"),
        (npy(np.zeros((0, 28, 28))), "shape (0, 28, 28)"),
        (npy(np.zeros((1025, 28, 28), np.uint8)), "N from 1 to 1024"),
        (npy(np.zeros((2, 28, 28, 3))), "shape (2, 28, 28, 3)"),
        (npy(np.full((28, 28), np.nan)), "from nan to nan"),
        (npy(np.full((28, 28), np.inf)), "from inf to inf"),
        (npy(np.full((28, 28), -1)), "from -1 to -1"),
        (npy(DIGIT * 1.1 + 10), "send numbers from 0 to 255"),
        (b"[1,", "the JSON cannot be read"),
        (b"\xff[", "are no PNG"),
        (b"[\xff]", "the JSON cannot be read"),
        (b"[" * 100_000, "the JSON cannot be read"),
        (b'{"a":' * 100_000, "the JSON cannot be read"),
        (b"[" * 500 + b"]" * 500, "not all of one shape"),
        (b"[]", "shape (0,)"),
        (b"{}", "the keys []"),
        (as_json({"inputs": [DIGIT.tolist()]}), "the keys ['inputs']"),
        (as_json({"instances": DIGIT.tolist()}), "send a list of images"),
        (as_json({"instances": 5}), "send a list of images"),
        (as_json({"instances": {"instances": []}}), "send a list of images"),
        (as_json([DIGIT.tolist(), [1, 2]]), "not all of one shape"),
        (as_json([[str(pixel) for pixel in row] for row in DIGIT.tolist()]), "not numbers"),
        (as_json([[True] * 28] * 28), "the pixels are bool"),
        (as_json([[None] * 28] * 28), "the pixels are object"),
        (as_json([[10**400] * 28] * 28), "the pixels are object"),
        (as_json([[float("nan")] * 28] * 28), "from nan to nan"),
        (b"[" + b"9" * 5000 + b"]", "the JSON cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once_with_the_reason(body, reason):
    start = time.monotonic()
    assert reason in refused(body)
    assert time.monotonic() - start < 1
