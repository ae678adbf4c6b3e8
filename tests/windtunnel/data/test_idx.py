import gzip
import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from windtunnel.data.idx import read_idx
from windtunnel.errors import WindtunnelError

Encode = Callable[[np.ndarray], bytes]
IMAGES = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
LABELS = np.array([7, 2, 1], np.uint8)
shapes = st.integers(1, 20).flatmap(lambda n: st.sampled_from([(n,), (n, 28, 28)]))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


@given(array=shapes.flatmap(lambda shape: arrays(np.uint8, shape)), compressed=st.booleans())
def test_round_trip(array: np.ndarray, compressed: bool, folder: Path, idx_bytes: Encode) -> None:
    content = idx_bytes(array)
    file = folder / "round"
    stored = folder / "round.gz" if compressed else file
    stored.write_bytes(gzip.compress(content) if compressed else content)
    try:
        found, digest = read_idx(file)
    finally:
        stored.unlink()
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert digest == hashlib.sha256(content).hexdigest()


def test_the_plain_file_comes_before_the_gzipped_one(tmp_path: Path, idx_bytes: Encode) -> None:
    (tmp_path / "labels").write_bytes(idx_bytes(LABELS))
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx_bytes(LABELS + 1)))
    np.testing.assert_array_equal(read_idx(tmp_path / "labels")[0], LABELS)


def header(*dimensions: int) -> bytes:
    return bytes([0, 0, 8, len(dimensions)]) + np.array(dimensions, ">u4").tobytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("plain", b"", "found 0x at its start"),
        ("plain", b"\x00\x00\x08", "found 0x000008 at its start"),
        ("plain", b"<!DOCTYPE html>", "found 0x3c21444f at its start"),
        ("plain", b"\x00\x00\x0d\x03" + header(1, 28, 28)[4:] + bytes(784), "found 0x00000d03 at its start"),
        ("plain", header(1, 28, 28)[:10], "ends within its header, after 10 bytes"),
        ("plain", header(1, 28, 27) + bytes(28 * 27), r"has a wrong shape: found \(1, 28, 27\)"),
        ("plain", header(0), r"has a wrong shape: found \(0,\)"),
        ("plain", header(2**32 - 1, 28, 28), r"has a wrong shape: found \(4294967295, 28, 28\)"),
        ("plain", header(2, 28, 28) + bytes(784), "found 784 bytes after its header, expected 1568"),
        ("plain", header(2) + bytes(3), "found more bytes after its header, expected 2"),
        ("zipped.gz", header(2) + bytes(2), "is truncated or is not gzip"),
        ("zipped.gz", gzip.compress(header(2) + bytes(2))[:-5], "is truncated or is not gzip"),
        ("zipped.gz", b"", "found 0x at its start"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WindtunnelError, match=message) as error:
        read_idx(tmp_path / name.removesuffix(".gz"))
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WindtunnelError, match=r"train-labels is missing, and so is train-labels\.gz"):
        read_idx(tmp_path / "train-labels")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 300)
    with pytest.raises(WindtunnelError, match="xxx"):
        read_idx(file)


@given(cut=st.integers(0, 2367), compressed=st.booleans())
def test_any_truncation_is_noticed(cut: int, compressed: bool, folder: Path, idx_bytes: Encode) -> None:
    content = idx_bytes(IMAGES)
    if compressed:
        content = gzip.compress(content)
    file = folder / ("cut.gz" if compressed else "cut")
    file.write_bytes(content[: min(cut, len(content) - 1)])
    with pytest.raises(WindtunnelError):
        read_idx(file)


@given(position=st.integers(0, 2367), value=st.integers(0, 255))
def test_a_changed_byte_is_an_error_or_another_digest(position: int, value: int, folder: Path, idx_bytes: Encode) -> None:
    content = bytearray(idx_bytes(IMAGES))
    content[position] = value
    (folder / "changed").write_bytes(content)
    try:
        _, digest = read_idx(folder / "changed")
    except WindtunnelError:
        assert position < 16
    else:
        assert digest == hashlib.sha256(content).hexdigest()


@given(position=st.integers(min_value=0), value=st.integers(0, 255))
def test_a_changed_byte_of_a_gzipped_file_changes_nothing_silently(position: int, value: int, folder: Path, idx_bytes: Encode) -> None:
    content = bytearray(gzip.compress(idx_bytes(IMAGES)))
    content[position % len(content)] = value
    (folder / "changed.gz").write_bytes(content)
    try:
        found, _ = read_idx(folder / "changed.gz")
    except WindtunnelError:
        return
    np.testing.assert_array_equal(found, IMAGES)


@given(content=st.binary(max_size=200), compressed=st.booleans())
def test_arbitrary_bytes_give_an_array_or_an_error(content: bytes, compressed: bool, folder: Path) -> None:
    file = folder / ("any.gz" if compressed else "any")
    file.write_bytes(content)
    try:
        found, _ = read_idx(file)
    except WindtunnelError:
        return
    assert found.ndim in (1, 3)


def test_a_gzip_bomb_does_not_fill_memory(tmp_path: Path) -> None:
    gibibyte = gzip.compress(bytes(2**24)) * 64
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(header(1, 28, 28)) + gibibyte)
    tracemalloc.start()
    try:
        with pytest.raises(WindtunnelError, match="found more bytes"):
            read_idx(tmp_path / "bomb")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
