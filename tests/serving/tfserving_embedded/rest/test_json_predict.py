"""The cases are those of TensorFlow Serving's own json_tensor_test.cc, and what JSON allows beyond them."""

import base64
import json
import math

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.tfserving_embedded.rest import json_document, json_predict
from serving.tfserving_embedded.serving_error import ServingError

INT = {"default": np.dtype(np.int32)}
FLOAT = {"default": np.dtype(np.float32)}
DOUBLE = {"default": np.dtype(np.float64)}
STRING = {"default": np.dtype(object)}
TWO = {"a": np.dtype(np.int32), "b": np.dtype(np.int32)}


def read(body, dtypes):
    return json_predict.inputs(json_document.read(body if isinstance(body, bytes) else body.encode()), dtypes)


def only(body, dtypes):
    tensors, _ = read(body, dtypes)
    (tensor,) = tensors.values()
    return tensor


def refused(body, dtypes, code=grpc.StatusCode.INVALID_ARGUMENT):
    with pytest.raises(ServingError) as caught:
        read(body, dtypes)
    assert caught.value.code is code
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "dtypes", "expected"),
    [
        ('{"instances": [[1,2],[3,4],[5,6]]}', INT, [[1, 2], [3, 4], [5, 6]]),
        ('{"instances": [1, 2.0, 3, 4, 5.003, 0.007, 0.0]}', FLOAT, [1, 2, 3, 4, 5.003, 0.007, 0]),
        ('{"instances": [1.0, 2, 3, 4, 0.662, 0, 0.0]}', DOUBLE, [1, 2, 3, 4, 0.662, 0, 0]),
        ('{"instances": [NaN, Infinity, -Infinity, 1]}', FLOAT, [math.nan, math.inf, -math.inf, 1]),
        ('{"instances": [NaN, -NaN, Inf, -Inf, Infinity, -Infinity]}', FLOAT, [math.nan, math.nan, *[math.inf, -math.inf] * 2]),
        ('{"instances": [1], "x": ["Inf", "-NaN\\\\", "\\"", Inf]}', FLOAT, [1]),
        ('{"instances": ["Inf", "\\"-NaN", "\\\\"], "x": -Inf}', STRING, [b"Inf", b'"-NaN', b"\\"]),
        ('{"instances": [1], "instances": [2]}', FLOAT, [1]),
        ('{"inputs": {"default": 1}, "inputs": 2}', FLOAT, 1),
        ('{"inputs": {"default": 1, "default": 2}}', FLOAT, 1),
        ('{"inputs": {"d\\u0065fault": [1.5], "d\\u0065fault": [2, 3]}}', FLOAT, [1.5]),
        ('{"inputs": {"\\u00e4": 1, "ä": 2}}', {"ä": np.dtype(np.float32)}, 1),
        ('{"instances": [{"default": 1}, {"default": 2, "default": 3}]}', INT, [1, 2]),
        ('{"instances": [{"default": "default"}, {"default": "a", "default": {"b64": ""}}]}', STRING, [b"default", b"a"]),
        (b'{"instances": [1]}\0', FLOAT, [1]),
        (b'{"instances": ["a"]} \0}', STRING, [b"a"]),
        ('{"instances": [1e30, -16777215, 3.4028235e38]}', FLOAT, [1e30, -16777215, np.finfo(np.float32).max]),
        ('{"instances": [16777217, -16777219, 1435774380]}', FLOAT, [16777216, -16777220, 1435774336]),
        ('{"instances": [18446744073709551615, -9223372036854775808, 18446744073709551616]}', FLOAT, [2.0**64, -(2.0**63), 2.0**64]),
        ('{"instances": [1152921573326323713, 0.5]}', FLOAT, [2.0**60, 0.5]),
        ('{"instances": [1152921573326323713, NaN]}', FLOAT, [2.0**60, math.nan]),
        (
            '{"instances": [9007199254740993, 18446744073709551616, 1.7976931348623157e308]}',
            DOUBLE,
            [2.0**53, 2.0**64, np.finfo(float).max],
        ),
        ('{"instances": [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ"}]}', STRING, [b"hello", b"world"]),
        ('{"instances": [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]}', STRING, [[b"hello"], [b"world"]]),
        ('{"instances": [{"default": [["ä"], [{"b64": "d29ybGQ="}]]}]}', STRING, [[["ä".encode()], [b"world"]]]),
        ('{"instances": [[true, false]]}', {"default": np.dtype(bool)}, [[True, False]]),
        ('{"instances": [[]]}', FLOAT, [[]]),
        ('{"instances": [9223372036854775807, -9223372036854775808]}', {"default": np.dtype(np.int64)}, [2**63 - 1, -(2**63)]),
        ('{"instances": [18446744073709551615, 1]}', {"default": np.dtype(np.uint64)}, [2**64 - 1, 1]),
        ('{"instances": [255, 0]}', {"default": np.dtype(np.uint8)}, [255, 0]),
        ('\ufeff{"instances": [1]}', FLOAT, [1]),
        ('{"inputs": 3}', FLOAT, 3),
        ('{"inputs": {"b64": "aGVsbG8="}}', STRING, b"hello"),
        ('{"inputs": {"default": [[1, 2]]}, "signature_name": "serving_default"}', INT, [[1, 2]]),
        ('{"inputs": {"default": 1, "another": 2}}', INT, 1),
    ],
)
def test_values_are_read_as_the_type_of_the_input(body, dtypes, expected):
    tensor = only(body, dtypes)
    (dtype,) = dtypes.values()
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor, np.array(expected, dtype))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (base64.encodebytes(bytes(range(256))).decode(), bytes(range(256))),  # a line break every 76 characters
        (base64.encodebytes(b"x" * 57).decode().replace("\n", "\r\n"), b"x" * 57),
        (" aG\tVs\vbG8 \f=\n", b"hello"),
        ("d29ybGQ", b"world"),
        ("Zg", b"f"),
        ("Zg==", b"f"),
        ("Zg..", b"f"),
        ("Zh==", b"f"),  # what is left over of the last digit
        ("", b""),
        (" \n", b""),
    ],
)
def test_base64_is_what_abseil_reads(text, expected):
    assert only(json.dumps({"inputs": [{"b64": text}]}), STRING).tolist() == [expected]


@pytest.mark.parametrize("text", ["Z", "Zg=", "Zg===", "ZgZg=", "Zg==Zg==", "=", "Z=g=", "Zm9v=", "_-8=", "Zg\u00a0==", "Zg\u0000"])
def test_what_abseil_does_not_read_is_no_base64(text):
    assert "Unable to base64 decode" in refused(json.dumps({"inputs": [{"b64": text}]}), STRING)


def test_named_inputs_by_row_and_by_column():
    dtypes = {"ints": np.dtype(np.int32), "texts": np.dtype(object), "floats": np.dtype(np.float32)}
    tensors, by_row = read(
        """{"instances": [{"ints": [[1,2],[3,4]], "texts": ["a", "b"], "floats": NaN},
                          {"floats": 2, "texts": ["c", "d"], "ints": [[5,6],[7,8]]}]}""",
        dtypes,
    )
    assert by_row
    np.testing.assert_array_equal(tensors["ints"], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert tensors["texts"].tolist() == [[b"a", b"b"], [b"c", b"d"]]
    np.testing.assert_array_equal(tensors["floats"], np.float32([math.nan, 2]))

    tensors, by_row = read('{"inputs": {"ints": [[[1,2]]], "texts": {"b64": "aGVsbG8="}, "floats": []}}', dtypes)
    assert not by_row
    assert (tensors["ints"].shape, tensors["texts"].item(), tensors["floats"].shape) == ((1, 1, 2), b"hello", (0,))


@pytest.mark.parametrize(
    ("body", "dtypes", "expected"),
    [
        ("", INT, "JSON Parse error: The document is empty"),
        ("instances = [1, 2]", INT, "JSON Parse error: Invalid value. at offset: 0"),
        ('{"ä": 1 2}', INT, "JSON Parse error: Missing a comma or ] or } after a value. at offset: 9"),
        ("{1: 2}", INT, "JSON Parse error: Missing a name for object member. at offset: 1"),
        ('{"instances": [1}', INT, "Missing a comma or ]"),
        ('{"instances": [Infinit]}', FLOAT, "JSON Parse error: "),
        ('{"instances": [inf]}', FLOAT, "JSON Parse error: Invalid value."),
        ('{"instances": [+Inf]}', FLOAT, "JSON Parse error: Invalid value."),
        (b'{"instances": [1\0]}', FLOAT, "JSON Parse error: Missing a comma or ]"),
        ('{"instances": [1]}}', INT, "The document root must not be followed by other values. at offset: 18"),
        ('{"instances": [1]} 2', INT, "The document root must not be followed by other values. at offset: 19"),
        ('{"instances": ["a', STRING, "Missing a closing quotation mark in string."),
        (b'{"instances": ["\xff"]}', STRING, "JSON Parse error: Invalid encoding in string. at offset: 16"),
        ('{"instances": ["\\ud800"]}', STRING, "The surrogate pair in string is invalid."),
        ('{"instances": ' + "[" * 100_000 + "]" * 100_000 + "}", FLOAT, "nested too deep"),
        ('{"instances": ' + "[" * 500 + "]" * 500 + "}", FLOAT, "at most 64 dimensions"),
        ('{"instances": [1, 1.8e308]}', DOUBLE, "JSON Parse error: Number too big to be stored in double. at offset: 18"),
        ('{"ä": [NaN, -1e400]}', FLOAT, "JSON Parse error: Number too big to be stored in double. at offset: 13"),
        ('{"instances": [' + "1" * 400 + "]}", FLOAT, "JSON Parse error: Number too big to be stored in double. at offset: 15"),
        ('{"instances": [' + "1" * 5000 + "]}", FLOAT, "JSON Parse error: Number too big to be stored in double. at offset: 15"),
        ("[1]", INT, "JSON Value: [1] Is not object"),
        ('{"signature_name": "x"}', INT, "Missing 'inputs' or 'instances' key"),
        ('{"instances": [1], "inputs": [1]}', INT, "expecting only one of 'inputs' or 'instances'"),
        ('{"instances": 1}', INT, "to be an list/array"),
        ('{"instances": []}', INT, "No values in 'instances' array"),
        ('{"instances": [[1,2],[3,4],[5,6,7]]}', INT, "element: 2 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2"),
        ('{"instances": [[1,2],[3,4],[[5,6]]]}', INT, "Expecting shape [2] but got: [1,2]"),
        ('{"instances": [1, [1]]}', INT, "Expecting shape [] but got: [1]"),
        ('{"instances": [[[1], 2]]}', INT, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ('{"instances": [[1, [2]]]}', INT, "Encountered list at unexpected level: 1 expected < 1"),
        ('{"inputs": [[1], [2, 3]]}', INT, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ('{"instances": [[1,2],["a","b"]]}', INT, 'JSON Value: "a" Type: String is not of expected type: int32'),
        ('{"instances": [1.0]}', INT, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ('{"instances": [256]}', {"default": np.dtype(np.uint8)}, "is not of expected type: uint8"),
        ('{"instances": [1, true]}', FLOAT, "JSON Value: true Type: True is not of expected type: float"),
        ('{"instances": [0]}', {"default": np.dtype(bool)}, "Type: Number is not of expected type: bool"),
        ('{"instances": [null]}', FLOAT, "JSON Value: null Type: Null is not of expected type: float"),
        ('{"instances": ["1.5"]}', FLOAT, "Type: String is not of expected type: float"),
        ('{"instances": [{"b64": "aGVsbG8="}]}', FLOAT, "Type: Object is not of expected type: float"),
        ('{"instances": [1.7976931348623157e308]}', FLOAT, "to float without loss of precision."),
        ('{"instances": [3.4028236e38]}', FLOAT, "to float without loss of precision."),
        ('{"instances": [9223372036854775808]}', {"default": np.dtype(np.int64)}, "is not of expected type: int64"),
        ('{"instances": [18446744073709551616]}', {"default": np.dtype(np.uint64)}, "is not of expected type: uint64"),
        ('{"instances": [[{"b64": "!"}]]}', STRING, "Unable to base64 decode"),
        ('{"instances": [[{"b64": "aGVsbG8=", "x": 1}]]}', STRING, "not formatted correctly for base64 data"),
        ('{"instances": [{"default": 1, "x": 1}]}', INT, 'JSON object: {"default": 1, "x": 1} keys must be equal to: default'),
        ('{"instances": [{"default": 1}, [1]]}', INT, "Expecting object but got list at item 1 of input list"),
        ('{"instances": [[1], {"default": 1}]}', INT, "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [1]}', TWO, "instances is a plain list, but expecting list of objects"),
        ('{"inputs": [1]}', TWO, "inputs is a plain value/list, but expecting an object"),
        ('{"inputs": {"a": 1}}', INT, "Missing named input: default in 'inputs' object."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_the_servers_words(body, dtypes, expected):
    assert expected in refused(body, dtypes)


def test_a_signature_name_is_a_string():
    assert json_document.read(b'{"signature_name": "predict"}').signature_name == "predict"
    assert json_document.read(b'{"signature_name": "first", "signature_name": "second"}').signature_name == "first"
    assert json_document.read(b"{}").signature_name == ""
    with pytest.raises(ServingError, match="'signature_name' key must be a string value"):
        _ = json_document.read(b'{"signature_name": 5}').signature_name


def test_types_that_json_is_not_read_into_are_unimplemented():
    for body, value in (('{"instances": [1]}', "1"), ('{"inputs": []}', "[]")):
        message = refused(body, {"default": np.dtype(np.float16)}, grpc.StatusCode.UNIMPLEMENTED)
        assert f"Conversion of JSON Value: {value} to type: half" in message
    assert "complex64" in refused('{"inputs": []}', {"default": np.dtype(np.complex64)}, grpc.StatusCode.UNIMPLEMENTED)


def test_an_error_quotes_the_beginning_of_a_large_value():
    message = refused(json.dumps({"instances": ["x" * 1_000_000]}), FLOAT)
    assert len(message) < 1000
    assert len(refused(json.dumps({"nothing": [1] * 1_000_000, "inputs": 1, "instances": 1}), FLOAT)) < 1000


NUMBERS = {
    "float": (np.float32, st.floats(width=32)),
    "double": (np.float64, st.floats()),
    "int64": (np.int64, st.integers(-(2**63), 2**63 - 1)),
    "uint64": (np.uint64, st.integers(0, 2**64 - 1)),
    "int8": (np.int8, st.integers(-128, 127)),
    "bool": (np.bool_, st.booleans()),
}


@settings(deadline=None)
@given(st.data())
def test_every_array_survives_the_way_there_and_back(data):
    dtype, elements = NUMBERS[data.draw(st.sampled_from(sorted(NUMBERS)))]
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=4, max_side=3), elements=elements))
    text = json_predict.reply({"default": array}, by_row=False)
    back = only(text.replace(b'"outputs"', b'"inputs"'), {"default": np.dtype(dtype)})
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)
    rows = only(json_predict.reply({"default": array}, by_row=True).replace(b'"predictions"', b'"instances"'), {"default": np.dtype(dtype)})
    np.testing.assert_array_equal(rows, array)


SCALAR = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text('aä"\x00', max_size=3)
JSON = st.recursive(
    SCALAR | st.just({"b64": "aGVsbG8="}),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(["default", "x", "b64"]), children, max_size=2),
    max_leaves=8,
)
REQUEST = st.fixed_dictionaries({}, optional={"instances": JSON, "inputs": JSON, "signature_name": JSON})


@settings(deadline=None)
@given(REQUEST, st.sampled_from([INT, FLOAT, STRING]))
def test_whatever_json_comes_is_read_or_refused(value, dtypes):
    try:
        tensors, _ = read(json.dumps(value), dtypes)
    except ServingError:
        return
    assert tensors["default"].dtype == dtypes["default"]


def written(outputs, by_row=True):
    return json_predict.reply(outputs, by_row)


def test_replies_by_row_and_by_column():
    ints = np.array([[[1, 2]], [[3, 4]]], np.int32)
    assert json.loads(written({"ints": ints})) == {"predictions": [[[1, 2]], [[3, 4]]]}
    assert json.loads(written({"ints": ints}, by_row=False)) == {"outputs": [[[1, 2]], [[3, 4]]]}

    outputs = {"double": np.array([8.0, 9.0]), "text": np.array([b"foo", b"bar"], object), "raw_bytes": np.array([[b"tf"], [b"x"]], object)}
    assert json.loads(written(outputs)) == {
        "predictions": [
            {"double": 8.0, "text": "foo", "raw_bytes": [{"b64": "dGY="}]},
            {"double": 9.0, "text": "bar", "raw_bytes": [{"b64": "eA=="}]},
        ]
    }
    assert json.loads(written(outputs, by_row=False)) == {
        "outputs": {"double": [8.0, 9.0], "text": ["foo", "bar"], "raw_bytes": [[{"b64": "dGY="}], [{"b64": "eA=="}]]}
    }


def test_numbers_are_written_short_and_keep_their_kind():
    assert written({"x": np.float32([0.1, 3, 555557.5])}) == b'{"predictions":[0.1,3.0,555557.5]}'
    assert written({"x": np.float32([math.nan, math.inf, -math.inf, 0.1])}) == b'{"predictions": [NaN, Infinity, -Infinity, 0.1]}'
    assert written({"x": np.float64([0.1]), "y": np.float32([math.nan])}) == b'{"predictions": [{"x": 0.1, "y": NaN}]}'
    assert written({"x": np.float32(0.1)}, by_row=False) == b'{"outputs":0.1}'
    assert written({"x": np.array([b"null"], object)}) == b'{"predictions": ["null"]}'
    assert written({"x": np.array([b"\xff"], object)}) == b'{"predictions":[{"b64":"' + base64.b64encode(b"\xff") + b'"}]}'
    assert written({"x": np.array([[1, 2], [3, 4]], np.int64).T}) == b'{"predictions":[[1,3],[2,4]]}'


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"x": np.int32(1)}, "Tensor name: x has no shape information"),
        ({"x": np.int32([[1], [2]]), "y": np.int32([1])}, "Tensor name: y has inconsistent batch size: 1 expecting: 2"),
        ({"x": np.complex64([1])}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_outputs_without_a_row_for_each_instance_are_an_error(outputs, expected):
    with pytest.raises(ServingError, match=expected):
        written(outputs)
