import json

import numpy as np
import pytest

from serving.backends import images
from serving.backends.arrays import read_arrays
from tests.job import write_idx
from windtunnel.errors import WindtunnelError
from windtunnel.model import Input

POINT = Input("point", (4,), codec="array", reader="serving.backends.arrays:read_arrays")


def test_arrays_are_samples(tmp_path):
    file, points = tmp_path / "points", np.arange(8).reshape(2, 4)
    with file.open("wb") as stream:
        np.save(stream, points)
    assert (read_arrays(file, POINT).dtype, read_arrays(file, POINT).tolist()) == (np.float32, points.tolist())
    file.write_text(json.dumps(points[0].tolist()))
    assert read_arrays(file, POINT).tolist() == points[:1].tolist()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", " is empty: expected an .npy or JSON"),
        (b"hello", ": unknown format: found 5 bytes that begin with b'hello'. Send .npy or JSON"),
        (b"[1, 2]", ": wrong shape: found (2,), expected (4) or (N,4)"),
        (b"[1, 2, 3, NaN]", ": the numbers are out of range: found nan to nan"),
        (None, " is missing: expected an .npy or JSON"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, content, says):
    if content is not None:
        (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(WindtunnelError) as caught:
        read_arrays(tmp_path / "a.npy", POINT)
    assert str(caught.value).startswith(f"{tmp_path / 'a.npy'}{says}")


def test_images_of_an_idx_file_have_the_size_of_the_input(tmp_path):
    write_idx(tmp_path / "x-idx3-ubyte", np.ones((2, 28, 28), np.uint8))
    wide = Input("image", (8, 12, 1), codec="image", reader="serving.backends.images:read_images")
    with pytest.raises(
        WindtunnelError, match=r"contains images of 28x28, expected the shape \(8, 12, 1\)\. Give a PNG, a JPEG or an \.npy"
    ):
        images.read_images(tmp_path / "x-idx3-ubyte", wide)
