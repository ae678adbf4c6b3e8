"""Tensors on the wire: `TensorProto` to numpy and back, without TensorFlow's Python package (tensorflow/core/framework/tensor.proto)."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.tfserving_embedded.serving_error import invalid_argument

NUMPY: dict[int, np.dtype] = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_INT16: np.dtype(np.int16),
    types_pb2.DT_INT8: np.dtype(np.int8),
    types_pb2.DT_STRING: np.dtype(object),
    types_pb2.DT_COMPLEX64: np.dtype(np.complex64),
    types_pb2.DT_INT64: np.dtype(np.int64),
    types_pb2.DT_BOOL: np.dtype(np.bool_),
    types_pb2.DT_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    types_pb2.DT_UINT16: np.dtype(np.uint16),
    types_pb2.DT_COMPLEX128: np.dtype(np.complex128),
    types_pb2.DT_HALF: np.dtype(np.float16),
    types_pb2.DT_UINT32: np.dtype(np.uint32),
    types_pb2.DT_UINT64: np.dtype(np.uint64),
}
"""The numpy type of a TensorFlow type. Strings are arrays of `bytes` objects."""

DATA_TYPE = {dtype: data_type for data_type, dtype in NUMPY.items()}

_VALUES = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
}
"""The field with a type's elements. Small integers share `int_val`; halves are stored there as bits, complex numbers as pairs."""


def data_type(array: np.ndarray) -> int:
    """Return TensorFlow's type of an array, DT_STRING for all kinds of text.

    Raises:
        ServingError: there is no such type.
    """
    if array.dtype.kind in "OSU":
        return types_pb2.DT_STRING
    if array.dtype not in DATA_TYPE:
        raise invalid_argument(f"No TensorFlow type for elements of type {array.dtype}")
    return DATA_TYPE[array.dtype]


def to_array(proto: tensor_pb2.TensorProto, alias: str) -> np.ndarray:
    """Convert a tensor of a request; if it has too few values, the last one fills the rest of the shape, as tensor.proto defines.

    Args:
        proto: the tensor, with its elements in `tensor_content` or in the field of its type.
        alias: the input's name, for error messages.

    Raises:
        ServingError: the elements do not form a tensor of this type and shape.
    """
    dtype = NUMPY.get(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if dtype is None or proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise _unparsable(alias, f"type {types_pb2.DataType.Name(proto.dtype)}, shape {list(shape)}")
    size = 1
    for dim in shape:
        size *= dim
    if proto.tensor_content and dtype.kind != "O":
        if len(proto.tensor_content) != size * dtype.itemsize:
            raise _unparsable(alias, f"{len(proto.tensor_content)} bytes of tensor_content for {size} elements of {dtype}")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    values = _values(proto, dtype)
    if len(values) == size:
        return values.reshape(shape)
    if len(values) > size or (len(values) == 0 and dtype.kind == "O"):
        raise _unparsable(alias, f"{len(values)} values for {size} elements")
    return _filled(values, size, dtype, alias).reshape(shape)


def _filled(values: np.ndarray, size: int, dtype: np.dtype, alias: str) -> np.ndarray:
    """Repeat the last value up to `size`. Because a few bytes could request all memory, what would not fit in a message is rejected."""
    if size * dtype.itemsize > 2**31 - 1:
        raise _unparsable(alias, f"{len(values)} values for {size} elements")
    array = np.full(size, values[-1] if len(values) else 0, dtype)
    array[: len(values)] = values
    return array


def _unparsable(alias: str, found: str) -> Exception:
    return invalid_argument(f"tensor parsing error: {alias} ({found})")


def _values(proto: tensor_pb2.TensorProto, dtype: np.dtype) -> np.ndarray:
    values: Sequence = getattr(proto, _VALUES.get(proto.dtype, "int_val"))
    if dtype.kind == "O":
        array = np.empty(len(values), object)
        array[:] = values
        return array
    if proto.dtype in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        return np.array(values, np.uint16).view(dtype)
    if dtype.kind == "c":
        return np.array(values, np.float32 if dtype.itemsize == 8 else np.float64).view(dtype)
    if dtype.kind in "iu" and dtype.itemsize < 4:
        return np.array(values, np.int32).astype(dtype)
    return np.array(values, dtype)


def fill_proto(proto: tensor_pb2.TensorProto, array: np.ndarray, as_content: bool = False) -> None:
    """Write an answer into an empty `TensorProto`, with its elements in the field of their type, as TensorFlow Serving does.

    Args:
        proto: the empty message.
        array: the answer.
        as_content: write the elements as bytes instead; strings stay in their field, because only C++ could read them.
    """
    proto.dtype = data_type(array)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if as_content and proto.dtype != types_pb2.DT_STRING:
        proto.tensor_content = flat.tobytes()
        return
    if proto.dtype in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        flat = flat.view(np.uint16)
    elif flat.dtype.kind == "c":
        flat = flat.view(np.float32 if flat.dtype.itemsize == 8 else np.float64)
    getattr(proto, _VALUES.get(proto.dtype, "int_val")).extend(flat.tolist())
