import json
import tracemalloc

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.tfserving_embedded.rest import json_numbers

NUMBERS = st.sampled_from(["1", "-2", "0.5", "1e3", "-0", "255.0", "9007199254740992", "1 2", "01", "", "1.", "e"])
TEXT = st.recursive(NUMBERS, lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"))


@settings(deadline=None)
@given(
    arrays.arrays(np.int64, arrays.array_shapes(max_dims=5, max_side=4), elements=st.integers(-(2**53) + 1, 2**53 - 1))
    | arrays.arrays(np.float64, arrays.array_shapes(max_dims=5, max_side=4), elements=st.floats(-1e6, 1e6)),
    st.sampled_from([None, 0, 2]),
    st.sampled_from(["instances", "inputs"]),
)
def test_arrays_of_numbers_are_read(array, indent, key):
    members = json_numbers.read(json.dumps({"signature_name": "predict", key: array.tolist()}, indent=indent).encode())
    assert members is not None
    assert members["signature_name"] == "predict"
    assert (members[key].dtype, members[key].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(members[key], array)


@settings(deadline=None)
@given(TEXT, st.integers(0, 100), st.sampled_from([*'[], 1"', "true", "1[", "]1", "},"]))
@example("[[1],[2]]", 4, "]")
def test_what_is_read_is_what_a_reader_of_json_reads(text, position, more):
    for body in (text, text[:position] + more + text[position:], text[:position] + text[position + 1 :]):
        body = b'{"instances": ' + body.encode() + b"}"
        members = json_numbers.read(body)
        if members is not None:
            np.testing.assert_array_equal(members["instances"], np.array(orjson.loads(body)["instances"]), strict=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"instances": 1}',
        b'{"instances": []}',
        b'{"instances": [[1], [2, 3]]}',
        b'{"instances": [1[], [2]]}',
        b'{"instances": [[1], []2]}',
        b'{"instances": [NaN]}',
        b'{"instances": [true]}',
        b'{"instances": [9007199254740992]}',
        b'{"instances": [18446744073709551615]}',
        b'{"instances": [1, 100000000000000000000]}',
        b'{"instances": [1[]]}',
        b'{"instances": [1], "inputs": [1]}',
        b'{"instances": [1]} x',
        b'{"signature_name": "x\\"", "instances": [1]}',
        b'{"instances": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    ],
)
def test_everything_else_is_left_alone(body):
    assert json_numbers.read(body) is None


@pytest.mark.parametrize("last", [b"", b",", b",,", b"1 ", b"1,2"])
def test_pieces_are_read_as_the_whole(monkeypatch, last):
    monkeypatch.setattr(json_numbers, "PIECE", 4)
    body = b'{"instances": [' + b",".join([b"[1, 2.5, -3]"] * 20) + last + b"]}"
    members = json_numbers.read(body)
    if last:
        assert members is None
    else:
        np.testing.assert_array_equal(members["instances"], np.array(orjson.loads(body)["instances"]), strict=True)


def test_reading_takes_a_few_times_the_memory_of_the_body():
    body = orjson.dumps({"instances": np.random.default_rng(0).random((100_000, 3))}, option=orjson.OPT_SERIALIZE_NUMPY)
    tracemalloc.start()
    try:
        assert json_numbers.read(body) is not None
        assert tracemalloc.get_traced_memory()[1] < 6 * len(body)
    finally:
        tracemalloc.stop()
