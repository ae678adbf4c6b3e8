"""JSON values into arrays, with TensorFlow Serving's rules for types and shapes and its words for what breaks them.

Its own reader is tensorflow_serving/util/json_tensor.cc. The rule is strict: no value is converted where something would be lost.
"""

import base64
import binascii
import functools
import math
from collections.abc import Iterator
from typing import Any

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

_FROM = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}
"""The kinds of array that numpy may make of JSON, for a type of each kind."""

_MAX_RANK = 64  # numpy's


def tensor(value: Any, dtype: np.dtype, booleans: bool) -> np.ndarray:
    """Read a JSON value as a tensor.

    Args:
        value: a scalar, or lists in lists, a level a dimension.
        dtype: the type of the signature's input; `object` for strings, which become `bytes`.
        booleans: whether `true` or `false` may be in it.

    Raises:
        ServingError: the lists are ragged, or a value is not of the type, or JSON is not read into this type.
    """
    array = None if booleans and dtype != np.bool_ else _numbers(value, dtype)
    return _values(value, dtype) if array is None else array


def _numbers(value: Any, dtype: np.dtype) -> np.ndarray | None:
    """The fast way: numpy finds shape and type. None where it does not do, or where every value needs a look."""
    if dtype.kind not in _FROM:
        return None
    try:
        return fit(np.array(value), dtype)
    except (ValueError, OverflowError):  # ragged
        return None


def fit(array: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """Numbers that numpy read, as the type of an input; None where not all are surely kept, or it is no such type."""
    if dtype not in _READABLE or array.size == 0 or array.dtype.kind not in _FROM.get(dtype.kind, ""):
        return None
    if dtype.kind != "b":
        low, high = _limits(dtype)
        if not (low <= array.min() and array.max() <= high):
            return None
    return array.astype(dtype, copy=False)


@functools.cache
def _limits(dtype: np.dtype) -> tuple[int, int]:
    """The integers from and to which a type holds every one."""
    if dtype.kind == "f":
        most = 2 ** (np.finfo(dtype).nmant + 1) - 1
        return -most, most
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _values(value: Any, dtype: np.dtype) -> np.ndarray:
    """The thorough way: value by value."""
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > _MAX_RANK:
        raise invalid_argument(f"Encountered list nested {len(shape)} levels deep. A tensor has at most {_MAX_RANK} dimensions")
    array = np.empty(shape, dtype)
    flat = array.reshape(-1)
    for index, leaf in enumerate(_leaves(value, shape, 0)):
        flat[index] = scalar(leaf, dtype)
    return array


def _leaves(value: Any, shape: list[int], level: int) -> Iterator[Any]:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {excerpt(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            )
        yield value
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}")
    for element in value:
        yield from _leaves(element, shape, level + 1)


def scalar(value: Any, dtype: np.dtype) -> Any:
    """A JSON value that is no list as an element of a type.

    Raises:
        ServingError: it is of another type, or would not be kept exactly; a floating-point number may be rounded.
    """
    name = types_pb2.DataType.Name(DATA_TYPE[dtype]).removeprefix("DT_").lower()
    if dtype not in _READABLE:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {excerpt(value)} to type: {name}")
    if dtype.kind == "O" and isinstance(value, str):
        return value.encode()
    if dtype.kind == "O" and isinstance(value, dict):
        return decode_base64(value)
    if dtype == np.bool_ and isinstance(value, bool):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and dtype.kind in "iuf":
        low, high = _limits(dtype)
        if low <= value <= high:
            return value
    if isinstance(value, float) and dtype.kind == "f" and (not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and dtype.kind == "f":
        raise invalid_argument(f"Cannot convert JSON value: {excerpt(value)} to {name} without loss of precision.")
    raise invalid_argument(f"JSON Value: {excerpt(value)} Type: {type_name(value)} is not of expected type: {name}")


def is_base64(value: Any) -> bool:
    """Whether a value is bytes written as `{"b64": "…"}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """The bytes of `{"b64": "…"}`.

    Raises:
        ServingError: the object is not of this form, or the text not base64.
    """
    if not is_base64(value):
        raise invalid_argument(f"JSON Value: {excerpt(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_argument(f"Unable to base64 decode {excerpt(text)}") from None


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    return {int: "Number", float: "Number", str: "String", list: "Array", dict: "Object"}[type(value)]
