"""Convert JSON values to arrays, with TensorFlow Serving's rules for types and shapes, and its error messages.

Its own parser is tensorflow_serving/util/json_tensor.cc. No value is converted to another type, except that an input of floating-point
numbers accepts integers too and rounds all values, as documented: https://www.tensorflow.org/tfx/serving/api_rest#json_conformance
Whatever a client sends, a value costs about a tenth of a microsecond: where possible, nothing here handles values one by one.
"""

import base64
import itertools
import string
from typing import Any, NoReturn

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2

from serving.tfserving_embedded.rest.json_document import excerpt
from serving.tfserving_embedded.runtime.tensors import DATA_TYPE
from serving.tfserving_embedded.serving_error import ServingError, invalid_argument

_READABLE = frozenset(
    map(np.dtype, (np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64, np.bool_, object))
)
"""The types that JSON can be converted to."""

_FROM: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}
"""The types of JSON values that can be converted to each of numpy's kinds."""

_MAX_RANK = 64  # numpy's


def tensor(value: Any, dtype: np.dtype) -> np.ndarray:
    """Convert a JSON value to a tensor.

    Args:
        value: a scalar, or nested lists with a level per dimension.
        dtype: the type of the signature's input; `object` for strings, which become `bytes`.

    Raises:
        ServingError: the lists are ragged, a value has another type, or JSON cannot be converted to this type.
    """
    if dtype not in _READABLE:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {excerpt(value)} to type: {_name(dtype)}")
    shape, leaves = _flattened(value)
    return _array(leaves, dtype).reshape(shape)


def fit(array: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """Convert numbers below `json_numbers.LIMIT` to the type of an input; None if it is not certain that they have this type."""
    kinds = {"f": "iuf", "i": "iu", "u": "iu"}.get(dtype.kind, "")
    if dtype not in _READABLE or array.size == 0 or array.dtype.kind not in kinds:
        return None
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        if array.min() < info.min or array.max() > info.max:
            return None
    return array.astype(dtype, copy=False)


def _flattened(value: Any) -> tuple[list[int], list[Any]]:
    """Return the shape of nested lists, and their values."""
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
    """Report where lists are not those of a tensor."""
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > _MAX_RANK:
        raise invalid_argument(f"Encountered list nested {len(shape)} levels deep. A tensor has at most {_MAX_RANK} dimensions")
    _check_lists(value, shape, 0)
    raise AssertionError("lists were wrongly taken for ragged")


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
    """Convert values to a type."""
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
    """Convert numbers to a floating-point type: an integer becomes a double first, as in the real server."""
    numbers = np.array(leaves, np.float64)
    # A type's largest number, written in short form, is slightly larger than the number itself, and rounds to it.
    most = float(np.finfo(dtype).max) * (1 + float(np.finfo(dtype).eps) / 4)
    wrong = np.flatnonzero((np.abs(numbers) > most) & np.isfinite(numbers))
    if wrong.size:
        raise invalid_argument(f"Cannot convert JSON value: {excerpt(leaves[wrong[0]])} to {_name(dtype)} without loss of precision.")
    return numbers.astype(dtype)


def _type_error(value: Any, dtype: np.dtype) -> ServingError:
    return invalid_argument(f"JSON Value: {excerpt(value)} Type: {type_name(value)} is not of expected type: {_name(dtype)}")


def _name(dtype: np.dtype) -> str:
    """Return TensorFlow's name of a type."""
    return types_pb2.DataType.Name(DATA_TYPE[dtype]).removeprefix("DT_").lower()


def is_base64(value: Any) -> bool:
    """Return whether a value is bytes written as `{"b64": "…"}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """Decode the bytes of `{"b64": "…"}` by the rules of `absl::Base64Unescape`: white space is ignored, padding is correct or omitted.

    Raises:
        ServingError: the object does not have this form, or the text is not base64.
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
    """Return RapidJSON's name of a value's type."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    return {int: "Number", float: "Number", str: "String", list: "Array", dict: "Object"}[type(value)]
