"""JSON values into arrays, with TensorFlow Serving's rules for types and shapes and its words for what breaks them.

Its own reader is tensorflow_serving/util/json_tensor.cc. No value becomes another type, except that an input of floating-point numbers
takes integers too and rounds whatever it takes, as documented: https://www.tensorflow.org/tfx/serving/api_rest#json_conformance
Whatever a client sends, a value costs a tenth of a microsecond or so: nothing here works on values one by one where it can be helped.
"""

import base64
import itertools
import string
from typing import Any, NoReturn

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2

from serving.tfserving.embedded.errors import ServingError, invalid_argument
from serving.tfserving.embedded.json_document import excerpt
from serving.tfserving.embedded.tensors import DATA_TYPE

_READABLE = frozenset(
    map(np.dtype, (np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64, np.bool_, object))
)
"""The types that JSON is read into."""

_FROM: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}
"""The types of JSON's values that become a type of each of numpy's kinds."""

_MAX_RANK = 64  # numpy's


def tensor(value: Any, dtype: np.dtype) -> np.ndarray:
    """Read a JSON value as a tensor.

    Args:
        value: a scalar, or lists in lists, a level a dimension.
        dtype: the type of the signature's input; `object` for strings, which become `bytes`.

    Raises:
        ServingError: the lists are ragged, or a value is not of the type, or JSON is not read into this type.
    """
    if dtype not in _READABLE:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {excerpt(value)} to type: {_name(dtype)}")
    shape, leaves = _flattened(value)
    return _array(leaves, dtype).reshape(shape)


def fit(array: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """Numbers below `json_numbers.LIMIT` as the type of an input; None where it is not plain that they are of this type."""
    kinds = {"f": "iuf", "i": "iu", "u": "iu"}.get(dtype.kind, "")
    if dtype not in _READABLE or array.size == 0 or array.dtype.kind not in kinds:
        return None
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        if array.min() < info.min or array.max() > info.max:
            return None
    return array.astype(dtype, copy=False)


def _flattened(value: Any) -> tuple[list[int], list[Any]]:
    """The shape of lists in lists, and what is in them."""
    shape: list[int] = []
    level = [value]
    while list in (types := set(map(type, level))):
        sizes = set(map(len, level)) if len(types) == 1 else set()
        if len(sizes) != 1 or len(shape) == _MAX_RANK:
            _refuse_lists(value)
        shape.append(sizes.pop())
        level = list(itertools.chain.from_iterable(level))
    return shape, level


def _refuse_lists(value: Any) -> NoReturn:
    """Say where lists are not those of a tensor."""
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > _MAX_RANK:
        raise invalid_argument(f"Encountered list nested {len(shape)} levels deep. A tensor has at most {_MAX_RANK} dimensions")
    _check_lists(value, shape, 0)
    raise AssertionError("lists were taken for ragged that are not")


def _check_lists(value: Any, shape: list[int], level: int) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {excerpt(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            )
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}")
    for element in value:
        _check_lists(element, shape, level + 1)


def _array(leaves: list[Any], dtype: np.dtype) -> np.ndarray:
    """Values as a type."""
    types = set(map(type, leaves))
    if not types <= _FROM[dtype.kind]:
        raise _type_error(next(leaf for leaf in leaves if type(leaf) not in _FROM[dtype.kind]), dtype)
    if dtype.kind == "O":
        texts = np.empty(len(leaves), dtype)
        texts[:] = [leaf.encode() if type(leaf) is str else decode_base64(leaf) for leaf in leaves]
        return texts
    if dtype.kind == "f":
        return _rounded(leaves, dtype)
    if leaves and dtype.kind != "b":
        if (array := fit(np.array(leaves), dtype)) is not None:
            return array
        info = np.iinfo(dtype)
        if (wrong := next((leaf for leaf in leaves if not info.min <= leaf <= info.max), None)) is not None:
            raise _type_error(wrong, dtype)
    return np.array(leaves, dtype)


def _rounded(leaves: list[Any], dtype: np.dtype) -> np.ndarray:
    """Numbers as a floating-point type: an integer becomes a double first, as in the real server."""
    numbers = np.array(leaves, np.float64)
    # The largest number of a type, written short, is a little larger than it is, and rounds to it.
    most = float(np.finfo(dtype).max) * (1 + float(np.finfo(dtype).eps) / 4)
    wrong = np.flatnonzero((np.abs(numbers) > most) & np.isfinite(numbers))
    if wrong.size:
        raise invalid_argument(f"Cannot convert JSON value: {excerpt(leaves[wrong[0]])} to {_name(dtype)} without loss of precision.")
    return numbers.astype(dtype)


def _type_error(value: Any, dtype: np.dtype) -> ServingError:
    return invalid_argument(f"JSON Value: {excerpt(value)} Type: {type_name(value)} is not of expected type: {_name(dtype)}")


def _name(dtype: np.dtype) -> str:
    """TensorFlow's name of a type."""
    return types_pb2.DataType.Name(DATA_TYPE[dtype]).removeprefix("DT_").lower()


def is_base64(value: Any) -> bool:
    """Whether a value is bytes written as `{"b64": "…"}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """The bytes of `{"b64": "…"}`, by the rules of `absl::Base64Unescape`: white space counts nowhere, padding is right or left out.

    Raises:
        ServingError: the object is not of this form, or the text not base64.
    """
    if not is_base64(value):
        raise invalid_argument(f"JSON Value: {excerpt(value)} not formatted correctly for base64 data")
    text = value["b64"].encode().translate(None, string.whitespace.encode())
    digits = text.rstrip(b"=.")
    missing = -len(digits) % 4
    try:
        if len(text) - len(digits) not in (0, missing):
            raise ValueError("wrong padding")
        return base64.b64decode(digits + b"=" * missing, validate=True)
    except ValueError:
        raise invalid_argument(f"Unable to base64 decode {excerpt(value['b64'])}") from None


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    return {int: "Number", float: "Number", str: "String", list: "Array", dict: "Object"}[type(value)]
