"""Predict in JSON: a request's tensors by row (`instances`) or by column (`inputs`), and the reply in the same format.

https://www.tensorflow.org/tfx/serving/api_rest#predict_api
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from serving.tfserving_embedded.rest.json_document import Document, excerpt
from serving.tfserving_embedded.rest.json_tensor import fit, is_base64, tensor
from serving.tfserving_embedded.serving_error import ServingError, invalid_argument

Tensors = dict[str, np.ndarray]


def inputs(document: Document, dtypes: Mapping[str, np.dtype]) -> tuple[Tensors, bool]:
    """Return the tensors of a request.

    Args:
        document: the request.
        dtypes: the type of each input of the signature, by name.

    Returns:
        The tensors, and whether they were given by row.

    Raises:
        ServingError: they are missing, or are not what the signature takes.
    """
    members = document.members
    if "instances" in members and "inputs" in members:
        raise document.wrong("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    by_row = "instances" in members
    if not by_row and "inputs" not in members:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    value = members["instances" if by_row else "inputs"]
    if isinstance(value, np.ndarray):
        if len(dtypes) == 1:
            ((name, dtype),) = dtypes.items()
            if (array := fit(value, dtype)) is not None:
                return {name: array}, by_row
        value = value.tolist()
    if not by_row:
        return _by_column(value, dtypes), False
    if not isinstance(value, list):
        raise document.wrong("Expecting 'instances' to be an list/array")
    if not value:
        raise document.wrong("No values in 'instances' array")
    return _by_row(value, dtypes), True


def _by_column(value: Any, dtypes: Mapping[str, np.dtype]) -> Tensors:
    if not _is_object(value):
        name = _only(dtypes, "inputs is a plain value/list, but expecting an object")
        return {name: tensor(value, dtypes[name])}
    for name in dtypes:
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
    return {name: tensor(value[name], dtype) for name, dtype in dtypes.items()}


def _by_row(instances: list[Any], dtypes: Mapping[str, np.dtype]) -> Tensors:
    if not _is_object(instances[0]):
        name = _only(dtypes, "instances is a plain list, but expecting list of objects")
        for item in _dicts(instances):
            if _is_object(instances[item]):
                raise invalid_argument(f"Expecting value/list but got object at item {item} of input list")
        return {name: _stack(instances, dtypes[name], "")}
    for item, instance in enumerate(instances):
        if not _is_object(instance):
            raise invalid_argument(f"Expecting object but got list at item {item} of input list")
        if instance.keys() != dtypes.keys():
            raise invalid_argument(
                f"Failed to process element: {item} of 'instances' list. JSON object: {excerpt(instance)} "
                f"keys must be equal to: {','.join(sorted(dtypes))}"
            )
    return {name: _stack([instance[name] for instance in instances], dtype, f" key: {name}") for name, dtype in dtypes.items()}


def _dicts(instances: list[Any]) -> Iterable[int]:
    """Return the items that are dicts. Usually there are none, which is determined without checking each item."""
    if dict not in set(map(type, instances)):
        return []
    return (item for item, instance in enumerate(instances) if type(instance) is dict)


def _stack(rows: list[Any], dtype: np.dtype, key: str) -> np.ndarray:
    """Stack rows into one tensor. On failure, the error names the first row that is wrong, or unlike the first one."""
    try:
        return tensor(rows, dtype)
    except ServingError:
        item = _first_wrong(rows, dtype)
        try:
            _same_shape(tensor(rows[0], dtype), tensor(rows[item], dtype))
        except ServingError as error:
            message = f"Failed to process element: {item}{key} of 'instances' list. Error: {error.code.name}: {error.message}"
            raise ServingError(error.code, message) from None
        raise


def _first_wrong(rows: list[Any], dtype: np.dtype) -> int:
    """Find the first row that cannot be stacked on those before it, by bisection: checking each row would take too long."""
    right, wrong = 0, len(rows)  # this many rows from the start are right; this many are not
    step = 1
    while wrong - right > 1:
        middle = min(right + step, (right + wrong) // 2)
        try:
            tensor([rows[0], *rows[right:middle]], dtype)
        except ServingError:
            wrong = middle
        else:
            right, step = middle, 2 * step
    return wrong - 1


def _same_shape(first: np.ndarray, other: np.ndarray) -> None:
    if other.size != first.size:
        raise invalid_argument(f"Expecting tensor size: {first.size} but got: {other.size}")
    if other.shape != first.shape:
        expected, found = (f"[{','.join(map(str, array.shape))}]" for array in (first, other))
        raise invalid_argument(f"Expecting shape {expected} but got: {found}")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _only(dtypes: Mapping[str, np.dtype], problem: str) -> str:
    if len(dtypes) != 1:
        raise invalid_argument(f"{problem} as multiple input tensors required as per tensorinfo_map")
    return next(iter(dtypes))


def reply(outputs: Tensors, by_row: bool) -> bytes:
    """Return the reply to a Predict request; a single output has no name.

    Args:
        outputs: the answer's tensors, by name; strings as `bytes`.
        by_row: whether the request was by row.

    Raises:
        ServingError: the outputs do not have a row for each instance, or have a type that JSON cannot express.
    """
    values = {name: _writable(name, array) for name, array in outputs.items()}
    if not by_row:
        return write({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    sizes = {name: _rows(name, array) for name, array in outputs.items()}
    size = next(iter(sizes.values()))
    for name, other in sizes.items():
        if other != size:
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {other} expecting: {size}")
    if len(values) == 1:
        return write({"predictions": next(iter(values.values()))})
    return write({"predictions": [{name: value[row] for name, value in values.items()} for row in range(size)]})


def _rows(name: str, array: np.ndarray) -> int:
    if array.ndim == 0:
        raise invalid_argument(f"Tensor name: {name} has no shape information")
    return array.shape[0]


def _writable(name: str, array: np.ndarray) -> Any:
    """Convert an output to what `write` accepts: numbers as arrays, strings as lists."""
    if array.dtype == object:
        as_bytes = name.endswith("_bytes")
        return np.vectorize(lambda value: _text(value, as_bytes), otypes=[object])(array).tolist() if array.size else array.tolist()
    if array.dtype.kind not in "biuf":
        raise invalid_argument(f"Failed to write JSON value for tensor type: {array.dtype}")
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _text(value: bytes, as_bytes: bool) -> str | dict[str, str]:
    """Return a string, or `{"b64": …}` if the output's name says that it has bytes, or if it is not text."""
    if not as_bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode()}


def write(value: Any) -> bytes:
    """Write JSON with arrays in it. NaN and infinities are written as TensorFlow Serving writes them, which orjson would not do."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(value, default=_plain).encode() if b"null" in text else text


def _plain(value: Any) -> Any:
    """Convert a numpy array or number to Python's, for JSON's own writer. A float32 keeps its short decimal form."""
    if value.dtype == np.float32:
        return value.astype(str).astype(float).tolist()
    return value.tolist()
