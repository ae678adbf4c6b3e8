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
from serving.tfserving.embedded.shapes import check_shape
from serving.tfserving.embedded.signatures import DEFAULT_SIGNATURE
from serving.tfserving.embedded.tensors import DATA_TYPE

FILE = "model.tflite"

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
            for _ in range(interpreters):
                self._pool.put(_Interpreter(Interpreter(model_content=content, num_threads=1)))
        except (ValueError, RuntimeError) as error:
            raise failed_precondition(f"Cannot load {path}: {error}") from error
        interpreter = self._pool.get()
        self.signatures = interpreter.signatures
        self._pool.put(interpreter)
        self._paces = {name: Pace() for name in self.signatures}

    def quick(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> bool:
        """Whether such inputs have proved to be computed within `QUICK_SECONDS`."""
        return self._paces[signature_name].quick(_size(inputs))

    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Run an interpreter. LiteRT's own errors do not name the input, so types and shapes are compared here."""
        signature = self.signatures[signature_name]
        for alias, value in inputs.items():
            info = signature.inputs[alias]
            if DATA_TYPE.get(value.dtype) != info.dtype:
                raise invalid_argument(f"Expects {alias} to be {types_pb2.DataType.Name(info.dtype)} but {value.dtype} is provided")
            check_shape(alias, value.shape, [dim.size for dim in info.tensor_shape.dim])
        interpreter = self._pool.get()
        start = time.thread_time()  # it computes on this thread, and the wall's clock would count the wait for Python's lock
        try:
            return interpreter.run(signature_name, inputs, outputs)
        except (ValueError, RuntimeError) as error:
            raise invalid_argument(f"{signature_name}: {error}") from error
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
    """An interpreter and its signatures; a model without any gets `serving_default` of all its inputs and outputs."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
        if self._runners:
            details = {name: (runner.get_input_details(), runner.get_output_details()) for name, runner in self._runners.items()}
        else:
            interpreter.allocate_tensors()
            details = {DEFAULT_SIGNATURE: (_by_name(interpreter.get_input_details()), _by_name(interpreter.get_output_details()))}
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


def _by_name(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {detail["name"]: detail for detail in details}


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
