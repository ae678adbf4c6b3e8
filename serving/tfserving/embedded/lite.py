"""A version that LiteRT holds: `model.tflite` in a SavedModel's directory, for `--prefer_tflite_model`."""

import queue
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.tfserving.embedded.errors import failed_precondition, invalid_argument
from serving.tfserving.embedded.model import Model
from serving.tfserving.embedded.signatures import DEFAULT_SIGNATURE
from serving.tfserving.embedded.tensors import DATA_TYPE

FILE = "model.tflite"

MAX_RANK = 6  # XNNPACK's; with more dimensions it ends the process
SIGNATURES = b"signature_defs_metadata"
UNSUPPORTED = ("unresolved custom op", "Select TensorFlow op")  # in LiteRT's errors about operations that it does not have

QUICK_SECONDS = 0.0005  # of a run that the loop can wait for; to hand one to a thread and back takes a tenth of a millisecond
QUICK_RUNS = 16  # one after the other, until the next is believed to be quick too


class LiteModel(Model):
    """A pool of interpreters, because one computes one request at a time."""

    def __init__(self, path: Path, interpreters: int) -> None:
        """Load a model.

        Args:
            path: the `.tflite` file.
            interpreters: how many the pool has.

        Raises:
            ServingError: FAILED_PRECONDITION: it cannot be loaded.
        """
        from ai_edge_litert.interpreter import Interpreter  # only who wants it pays for it

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
        self._paces = {name: Pace() for name in self.signatures}

    def quick(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> bool:
        """Whether such inputs have proved to be computed within `QUICK_SECONDS`."""
        return self._paces[signature_name].quick(_size(inputs))

    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Run an interpreter, which takes the shapes of the inputs for its own and says if it cannot."""
        signature = self.signatures[signature_name]
        for alias, value in inputs.items():
            info = signature.inputs[alias]
            if DATA_TYPE.get(value.dtype) != info.dtype:
                raise invalid_argument(f"Expects {alias} to be {types_pb2.DataType.Name(info.dtype)} but {value.dtype} is provided")
            if value.ndim > MAX_RANK or value.size == 0:  # which operations do not all bear
                raise invalid_argument(
                    f"Cannot feed value of shape {list(value.shape)} for input {alias}: it is empty or has more than {MAX_RANK} dimensions"
                )
        interpreter = self._pool.get()
        start = time.thread_time()  # it computes on this thread, and the wall's clock would count the wait for Python's lock
        try:
            return interpreter.run(signature_name, inputs, outputs)
        except (ValueError, RuntimeError) as error:
            shapes = ", ".join(f"{alias} of shape {list(value.shape)}" for alias, value in inputs.items())
            raise invalid_argument(f"Cannot compute {signature_name} of {shapes}: {error}") from error
        finally:
            self._paces[signature_name].record(_size(inputs), time.thread_time() - start)
            self._pool.put(interpreter)

    def _free(self) -> None:
        while not self._pool.empty():
            self._pool.get()


class Pace:
    """How large the inputs are that a signature computes quickly. One slow run, whatever its size, and all is to be proved anew."""

    def __init__(self) -> None:
        self._size = self._runs = 0

    def record(self, size: int, seconds: float) -> None:
        """Learn from a run: the bytes of its inputs, the processor time it took."""
        if seconds > QUICK_SECONDS:
            self._size = self._runs = 0
        else:
            self._size, self._runs = max(self._size, size), self._runs + 1

    def quick(self, size: int) -> bool:
        """Whether inputs of this size, in bytes, are believed to be computed quickly."""
        return self._runs >= QUICK_RUNS and size <= self._size


def _size(inputs: Mapping[str, np.ndarray]) -> int:
    return sum(value.nbytes for value in inputs.values())


class _Interpreter:
    """An interpreter and its signatures.

    Signatures in the file's metadata come first, as in TensorFlow Serving, then the file's own. A model without any gets
    `serving_default` of all its inputs and outputs, by the names of their tensors without `:0`.
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
        RuntimeError: it has an operation that LiteRT does not have, which the text names.
    """
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        if any(text in str(error) for text in UNSUPPORTED):
            raise  # any other error may be of a shape that stands for an open one


def _stored_signatures(content: bytes) -> dict[str, meta_graph_pb2.SignatureDef]:
    """The signatures in the metadata of a `.tflite` file: a map of flexbuffers, with a serialized `SignatureDef` for each name.

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
    """Tensors by their names, without `:0` where that is enough to tell them apart."""
    names = {_without_index(detail["name"]): detail for detail in details}
    return names if len(names) == len(details) else {detail["name"]: detail for detail in details}


def _named(infos: Mapping[str, meta_graph_pb2.TensorInfo], details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tensors of a signature, whose names older files have without `:0`.

    Raises:
        ValueError: the model has no such tensor.
    """
    tensors = {detail["name"]: detail for detail in details}
    named = {}
    for alias, info in infos.items():
        found = [name for name in (info.name, _without_index(info.name)) if name in tensors]
        if not found:
            raise ValueError(f"A signature names a tensor that is not there: found {info.name}, expected one of {sorted(tensors)}")
        named[alias] = tensors[found[0]]
    return named


def _without_index(name: str) -> str:
    return name.partition(":")[0]


def _signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> meta_graph_pb2.SignatureDef:
    """What LiteRT says of a signature's tensors, as TensorFlow has it.

    Raises:
        ServingError: FAILED_PRECONDITION: a tensor has a type that cannot be sent.
    """
    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for details, infos in ((inputs, signature.inputs), (outputs, signature.outputs)):
        for alias, detail in details.items():
            dtype = np.dtype(detail["dtype"])
            if dtype not in DATA_TYPE:
                raise failed_precondition(f"Tensor {alias} has the type {dtype}, which is not served from {FILE}: serve the SavedModel")
            infos[alias].name = detail["name"]
            infos[alias].dtype = DATA_TYPE[dtype]
            shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
            for size in shape:
                infos[alias].tensor_shape.dim.add(size=int(size))
    return signature
