"""A version in LiteRT: `model.tflite` in a SavedModel's directory, for `--prefer_tflite_model`."""

import queue
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.tfserving_embedded.runtime.model import Model
from serving.tfserving_embedded.runtime.shapes import Shape
from serving.tfserving_embedded.runtime.signatures import DEFAULT_SIGNATURE
from serving.tfserving_embedded.runtime.tensors import DATA_TYPE
from serving.tfserving_embedded.serving_error import failed_precondition, invalid_argument

FILE = "model.tflite"

MAX_RANK = 6  # XNNPACK's limit; with more dimensions it ends the process
SIGNATURES = b"signature_defs_metadata"
UNSUPPORTED = ("unresolved custom op", "Select TensorFlow op")  # in LiteRT's errors about operations that it lacks

QUICK_SECONDS = 0.0005  # of a run for which the loop can wait; passing one to a thread and back takes a tenth of a millisecond
QUICK_RUNS = 16  # consecutive quick runs, after which the next one is expected to be quick too


class LiteModel(Model):
    """A pool of interpreters, because an interpreter computes one request at a time."""

    def __init__(self, path: Path, interpreters: int) -> None:
        """Load a model.

        Args:
            path: the `.tflite` file.
            interpreters: the size of the pool.

        Raises:
            ServingError: FAILED_PRECONDITION: it cannot be loaded.
        """
        from ai_edge_litert.interpreter import Interpreter  # imported only if it is used

        super().__init__()
        self._pool: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            content = path.read_bytes()
            loaded = [Interpreter(model_content=content, num_threads=1) for _ in range(interpreters)]
            stored = _stored_signatures(content)
            for interpreter in loaded:
                self._pool.put(_Interpreter(interpreter, stored))
        except (ValueError, RuntimeError) as error:
            raise failed_precondition(f"Cannot load {path}: {' '.join(str(error).split())}") from error
        first = self._pool.get()
        self.signatures = first.signatures
        self._pool.put(first)
        self.required_shapes = {name: _required(signature) for name, signature in self.signatures.items()}
        self._paces = {name: Pace() for name in self.signatures}

    def quick(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> bool:
        """Return whether such inputs have proved to be computed within `QUICK_SECONDS`."""
        return self._paces[signature_name].quick(_size(inputs))

    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Run an interpreter, which adopts the number of rows of the inputs or reports that it cannot."""
        signature = self.signatures[signature_name]
        for alias, value in inputs.items():
            info = signature.inputs[alias]
            if DATA_TYPE.get(value.dtype) != info.dtype:
                raise invalid_argument(f"Expects {alias} to be {types_pb2.DataType.Name(info.dtype)} but {value.dtype} is provided")
        self.check_shapes(signature_name, inputs)
        for alias, value in inputs.items():
            if value.ndim > MAX_RANK or value.size == 0:  # not all operations support these
                raise invalid_argument(
                    f"Cannot feed value of shape {list(value.shape)} for input {alias}: it is empty or has more than {MAX_RANK} dimensions"
                )
        interpreter = self._pool.get()
        start = time.thread_time()  # CPU time of this thread: wall time would include waiting for the GIL
        try:
            return interpreter.run(signature_name, inputs, outputs)
        except (ValueError, RuntimeError) as error:
            declared = self.signatures[signature_name].inputs
            shapes = ", ".join(
                f"{alias} of shape {list(value.shape)}, declared as {[dim.size for dim in declared[alias].tensor_shape.dim]}"
                for alias, value in inputs.items()
            )
            raise invalid_argument(f"Cannot compute {signature_name} of {shapes}: {error}") from error
        finally:
            self._paces[signature_name].record(_size(inputs), time.thread_time() - start)
            self._pool.put(interpreter)

    def _free(self) -> None:
        while not self._pool.empty():
            self._pool.get()


class Pace:
    """The input size up to which a signature computes quickly. After one slow run, of whatever size, it must be proved again."""

    def __init__(self) -> None:
        self._size = self._runs = 0

    def record(self, size: int, seconds: float) -> None:
        """Record a run: the bytes of its inputs, and the CPU time it took."""
        if seconds > QUICK_SECONDS:
            self._size = self._runs = 0
        else:
            self._size, self._runs = max(self._size, size), self._runs + 1

    def quick(self, size: int) -> bool:
        """Return whether inputs of this size, in bytes, are expected to be computed quickly."""
        return self._runs >= QUICK_RUNS and size <= self._size


def _required(signature: meta_graph_pb2.SignatureDef) -> dict[str, Shape]:
    """Return the shapes that values must have, with any number of rows.

    An interpreter would adopt any shape with which its operations can compute, and answer a picture of another size as if it were right.
    It has the same empty shape for a scalar and for a value of unknown rank, so these are unrestricted.
    """
    shapes = {alias: [dim.size for dim in info.tensor_shape.dim] for alias, info in signature.inputs.items()}
    return {alias: (-1, *sizes[1:]) for alias, sizes in shapes.items() if sizes}


def _size(inputs: Mapping[str, np.ndarray]) -> int:
    return sum(value.nbytes for value in inputs.values())


class _Interpreter:
    """An interpreter and its signatures.

    Signatures in the file's metadata have priority, as in TensorFlow Serving, over the file's own. A model without any gets
    `serving_default` with all its inputs and outputs, by the names of their tensors without `:0`.
    """

    def __init__(self, interpreter: Any, stored: Mapping[str, meta_graph_pb2.SignatureDef]) -> None:
        self._interpreter = interpreter
        _check_operations(interpreter)
        names = {} if stored else interpreter.get_signature_list()
        self._runners = {name: interpreter.get_signature_runner(name) for name in names}
        if self._runners:
            details = {name: (runner.get_input_details(), runner.get_output_details()) for name, runner in self._runners.items()}
        else:
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
            details = {name: (_named(stored[name].inputs, inputs), _named(stored[name].outputs, outputs)) for name in stored}
            details = details or {DEFAULT_SIGNATURE: (_by_name(inputs), _by_name(outputs))}
        self._details = details
        self.signatures = {name: _signature(*tensors) for name, tensors in details.items()}

    def run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        if self._runners:
            results = self._runners[signature_name](**inputs)
            return [results[alias] for alias in outputs]
        input_details, output_details = self._details[signature_name]
        for alias, value in inputs.items():
            self._interpreter.resize_tensor_input(input_details[alias]["index"], value.shape)
        self._interpreter.allocate_tensors()
        for alias, value in inputs.items():
            self._interpreter.set_tensor(input_details[alias]["index"], value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output_details[alias]["index"]) for alias in outputs]


def _check_operations(interpreter: Any) -> None:
    """Prepare the model for the shapes in its file.

    Raises:
        RuntimeError: it has an operation that LiteRT lacks; the message names it.
    """
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        if any(text in str(error) for text in UNSUPPORTED):
            raise  # any other error may come from a placeholder shape for an open one


def _stored_signatures(content: bytes) -> dict[str, meta_graph_pb2.SignatureDef]:
    """Return the signatures in the metadata of a `.tflite` file: a map of flexbuffers, with a serialized `SignatureDef` for each name.

    https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/lite/tools/signature/signature_def_util.h
    """
    from ai_edge_litert import schema_py_generated
    from flatbuffers import flexbuffers

    model = schema_py_generated.Model.GetRootAs(content)
    for metadata in map(model.Metadata, range(model.MetadataLength())):
        if metadata.Name() == SIGNATURES:
            signatures = flexbuffers.GetRoot(model.Buffers(metadata.Buffer()).DataAsNumpy().tobytes()).AsMap
            return {
                key.AsKey: meta_graph_pb2.SignatureDef.FromString(value.AsStringBytes)
                for key, value in zip(signatures.Keys, signatures.Values, strict=True)
            }
    return {}


def _by_name(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return tensors by name, without `:0` if the names stay unique."""
    names = {_without_index(detail["name"]): detail for detail in details}
    return names if len(names) == len(details) else {detail["name"]: detail for detail in details}


def _named(infos: Mapping[str, meta_graph_pb2.TensorInfo], details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tensors of a signature. Older files have their names without `:0`.

    Raises:
        ValueError: the model has no such tensor.
    """
    tensors = {detail["name"]: detail for detail in details}
    named = {}
    for alias, info in infos.items():
        found = [name for name in (info.name, _without_index(info.name)) if name in tensors]
        if not found:
            raise ValueError(f"A signature names an unknown tensor: found {info.name}, expected one of {sorted(tensors)}")
        named[alias] = tensors[found[0]]
    return named


def _without_index(name: str) -> str:
    return name.partition(":")[0]


def _signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> meta_graph_pb2.SignatureDef:
    """Convert LiteRT's description of a signature's tensors to TensorFlow's.

    Raises:
        ServingError: FAILED_PRECONDITION: a tensor has a type that cannot be sent.
    """
    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for details, infos in ((inputs, signature.inputs), (outputs, signature.outputs)):
        for alias, detail in details.items():
            dtype = np.dtype(detail["dtype"])
            if dtype not in DATA_TYPE:
                raise failed_precondition(f"Tensor {alias} has the type {dtype}, which cannot be served from {FILE}. Serve the SavedModel")
            infos[alias].name = detail["name"]
            infos[alias].dtype = DATA_TYPE[dtype]
            shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
            for size in shape:
                infos[alias].tensor_shape.dim.add(size=int(size))
    return signature
