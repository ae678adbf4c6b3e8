import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from serving.backends.torchserve.handler import BadRequest, make_decoder
from tests.cost import cost
from tests.serving.backends.torchserve.bodies import as_json, npy

decode = make_decoder("image", (28, 28, 1)).decode
DIGIT = np.random.default_rng(1).integers(0, 256, (28, 28), np.uint8)


def picture(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


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
    def half(mode, colour, **options):
        """Left of one colour, right white."""
        image = Image.new(mode, (28, 28), 1 if mode == "P" else "white")
        image.paste(colour, (0, 0, 14, 28))
        if mode == "P":
            image.putpalette([0, 200, 0, 255, 255, 255])
        return decode(picture(image, **options))[:, :, 0]

    red = half("RGB", (255, 0, 0))
    assert (red[:, :14] == 76).all()  # 255 times 299/1000
    assert (red[:, 14:] == 255).all()
    assert abs(half("RGB", (255, 0, 0), kind="JPEG")[:, :7] - 76).max() <= 1
    assert abs(half("RGBA", (255, 255, 255, 100))[:, :14] - 100).max() <= 1
    assert (half("P", 0, transparency=0)[:, :14] == 0).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(kind, orientation):
    """What a viewer shows: row by row from the top left, whatever corner of it is stored first."""
    stored = {
        1: lambda shown: shown,
        2: lambda shown: shown[:, ::-1],
        3: lambda shown: shown[::-1, ::-1],
        4: lambda shown: shown[::-1],
        5: lambda shown: shown.T,
        6: lambda shown: np.rot90(shown, 1),
        7: lambda shown: np.rot90(shown.T, 2),
        8: lambda shown: np.rot90(shown, -1),
    }[orientation]
    shown = np.add.outer(np.arange(28) * 7, np.arange(28) * 2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = picture(Image.fromarray(np.ascontiguousarray(stored(shown))), kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {}))
    assert abs(decode(body)[..., 0] - shown).max() <= (2 if kind == "JPEG" else 0)
    colour = picture(Image.fromarray(np.ascontiguousarray(stored(shown))).convert("RGB"), "PNG", exif=exif)
    assert np.array_equal(decode(colour)[..., 0], shown)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0", b"\xff" * 50], ids=["empty", "name", "half", "other"])
def test_exif_that_cannot_be_read_is_passed_over(exif):
    for kind in ("PNG", "JPEG"):
        body = picture(Image.fromarray(DIGIT), kind, exif=exif)
        assert np.array_equal(decode(body)[..., 0], np.asarray(Image.open(io.BytesIO(body))))


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


@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)], ids=lambda value: str(value))
@pytest.mark.parametrize("transparent", ["the brightest", "another"])
def test_one_shade_or_colour_that_is_transparent_is_black(depth, colour, transparent):
    """PNG's tRNS has it as it is stored, whatever the depth; the others are what they are without."""
    largest = (1 << depth) - 1
    other = {1: 0, 2: 1, 4: 9, 8: 200, 16: 200 * 257}[depth]
    shades = np.full((28, 28), other)
    shades[:, ::2] = largest
    samples = np.repeat(shades, 3, axis=1) if colour else shades
    rows = np.unpackbits(samples.astype(">u2").view(np.uint8).reshape(28, -1), axis=1).reshape(28, -1, 16)[:, :, 16 - depth :]
    packed = np.packbits(rows.reshape(28, -1), axis=1)
    chosen = largest if transparent == "the brightest" else other
    trns = struct.pack(">H", chosen) * (3 if colour else 1)
    header = struct.pack(">IIBBBBB", 28, 28, depth, colour, 0, 0, 0)
    filtered = b"".join(b"\0" + row.tobytes() for row in packed)
    parts = ((b"IHDR", header), (b"tRNS", trns), (b"IDAT", zlib.compress(filtered)), (b"IEND", b""))
    body = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    expected = np.where(shades == chosen, 0, shades * 255 // largest)
    if len(np.unique(expected)) == 1:
        assert "the PNG has only one shade, 0" in refused(body)
    else:
        assert np.array_equal(decode(body)[..., 0], expected)


def test_a_picture_of_which_nothing_is_left_is_refused():
    canvas = np.zeros((28, 28, 4), np.uint8)
    canvas[5:20, 10:14, 3] = 255  # black ink on a transparent canvas
    black = "the PNG has only one shade, 0, after its transparency was put on black. Draw in a bright colour, or make the background opaque"
    assert refused(picture(Image.fromarray(canvas))) == black
    assert "the PNG has only one shade, 255" in refused(picture(Image.new("L", (28, 28), 255)))
    assert "the JPEG has only one shade, 0" in refused(picture(Image.new("L", (300, 28)), "JPEG"))


@pytest.mark.parametrize(
    "pixels",
    [DIGIT / 255, (DIGIT > 127).astype(np.uint8), np.stack([DIGIT, DIGIT / 255]), (DIGIT / 255).astype(np.float32)[..., None]],
    ids=["divided", "binary", "one of two", "float32"],
)
def test_pixels_that_were_divided_by_255_are_refused(pixels):
    for body in (npy(pixels), as_json(pixels.tolist())):
        assert refused(body) == "the pixels of an image have the wrong range: found 0..1, expected 0..255. Do not divide them by 255"


def test_black_images_are_numbers_as_others_are():
    for body in (npy(np.zeros((2, 28, 28))), as_json(np.zeros((28, 28, 1)).tolist()), bytes(784)):
        assert not decode(body).any()


def test_bytes_and_pictures_of_0_and_1_are_refused_too():
    binary = (DIGIT > 127).astype(np.uint8)
    for body in (binary.tobytes(), picture(Image.fromarray(binary))):
        assert "found 0..1, expected 0..255" in refused(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b"hello", "unknown format: found 5 bytes that begin with b'hello'. Send PNG"),
        (b"GIF89a" + bytes(100), "unknown format"),
        (picture(Image.fromarray(DIGIT))[:200], "the PNG cannot be decoded"),
        (picture(Image.fromarray(DIGIT), "JPEG")[:100], "the JPEG cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n", "the PNG cannot be decoded"),
        (png(50_000, 50_000, bytes(1000)), "the PNG is too large"),
        (png(2049, 2048, bytes(2049 * 2048)), "(2049x2048 pixels): expected at most 4194304 pixels"),
        (png(28, 28, bytes(29 * 28), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))), "the PNG cannot be decoded"),
        (npy(DIGIT)[:200], "the .npy cannot be read"),
        (npy(np.array([None])), "the .npy cannot be read"),
        (npy(DIGIT).replace(b"(28, 28)", b"(99999999999,)"), "the .npy cannot be read"),
        (npy(DIGIT.astype(str)), "expected numbers"),
        (npy(DIGIT.astype(complex)), "the pixels have the wrong type: found complex128"),
        (npy(np.zeros((28, 27))), "wrong shape: found (28, 27)"),
        (npy(np.zeros((0, 28, 28))), "wrong shape: found (0, 28, 28)"),
        (npy(np.zeros((1025, 28, 28), np.uint8)), "N from 1 to 1024"),
        (npy(np.zeros((2, 28, 28, 3))), "wrong shape: found (2, 28, 28, 3)"),
        (npy(np.full((28, 28), np.nan)), "found nan to nan"),
        (npy(np.full((28, 28), np.inf)), "found inf to inf"),
        (npy(np.full((28, 28), -1)), "found -1 to -1"),
        (npy(DIGIT * 1.1 + 10), "expected 0 to 255"),
        (b"[1,", "the JSON cannot be read"),
        (b"\xff[", "unknown format"),
        (b"[\xff]", "the JSON cannot be read"),
        (b"[" * 100_000, "the JSON cannot be read"),
        (b'{"a":' * 100_000, "the JSON cannot be read"),
        (b"[" * 500 + b"]" * 500, "not all have the same shape"),
        (b"[]", "wrong shape: found (0,)"),
        (b"{}", "the keys []"),
        (as_json({"inputs": [DIGIT.tolist()]}), "the keys ['inputs']"),
        (as_json({"instances": DIGIT.tolist()}), "expected a list of images"),
        (as_json({"instances": 5}), "expected a list of images"),
        (as_json({"instances": {"instances": []}}), "expected a list of images"),
        (as_json([DIGIT.tolist(), [1, 2]]), "not all have the same shape"),
        (as_json([[str(pixel) for pixel in row] for row in DIGIT.tolist()]), "expected numbers"),
        (as_json([[True] * 28] * 28), "the pixels have the wrong type: found bool"),
        (as_json([[None] * 28] * 28), "the pixels have the wrong type: found object"),
        (as_json([[10**400] * 28] * 28), "the pixels have the wrong type: found object"),
        (as_json([[float("nan")] * 28] * 28), "found nan to nan"),
        (b"[" + b"9" * 5000 + b"]", "the JSON cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once_with_the_reason(body, reason):
    assert reason in refused(body)
    assert cost(lambda: refused(body)) < 1
