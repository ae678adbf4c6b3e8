"""A loaded version of a model, in any runtime."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import grpc
import numpy as np
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.tfserving_embedded.batching_parameters import BatchingParameters
from serving.tfserving_embedded.runtime.session import Session
from serving.tfserving_embedded.runtime.shapes import Shape, check_shape
from serving.tfserving_embedded.serving_error import ServingError


@dataclass(frozen=True)
class ModelOptions:
    """How versions are loaded; the fields are the command line's flags.

    Attributes:
        session_config: configuration of all TensorFlow sessions.
        run_options: options of all runs.
        saved_model_tags: tags of the SavedModel's graph to load.
        prefer_tflite_model: use `model.tflite` if a SavedModel's directory has one.
        num_tflite_interpreters: how many requests a `model.tflite` computes at the same time.
        enable_model_warmup: replay a version's warm-up records before it becomes AVAILABLE.
        num_request_iterations_for_warmup: how often each record is replayed.
        enable_per_model_batching_parameters: read `batching_params.pbtxt` if a SavedModel's directory has one.
    """

    session_config: config_pb2.ConfigProto
    run_options: config_pb2.RunOptions
    saved_model_tags: Sequence[str] = ("serve",)
    prefer_tflite_model: bool = False
    num_tflite_interpreters: int = 1
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 1
    enable_per_model_batching_parameters: bool = False


class Model(ABC):
    """A loaded version. `run` and `close` may be called from any thread.

    When a client disconnects, its request ends but not the computation for it, so a version without requests may still be running:
    `close` waits for it, and `run` rejects later calls.
    """

    signatures: Mapping[str, meta_graph_pb2.SignatureDef]
    batching: BatchingParameters | None = None
    """How its requests are batched, if it has parameters of its own."""

    required_shapes: Mapping[str, Mapping[str, Shape]]
    """The shapes that values must have: by signature, by input, with -1 for an open size. Missing inputs are unrestricted."""

    def __init__(self) -> None:
        self.required_shapes = {}
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False

    def run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute outputs of a signature.

        Args:
            signature_name: one of `signatures`.
            inputs: a value for each of its inputs, by name.
            outputs: names of the outputs to return, in this order.

        Raises:
            ServingError: the runtime rejects the values or fails.
        """
        with self._changed:
            if self._closed:
                raise ServingError(grpc.StatusCode.UNAVAILABLE, "This version has been unloaded")
            self._running += 1
        try:
            return self._run(signature_name, inputs, outputs)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def check_shapes(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Reject values whose shapes the signature does not declare.

        Raises:
            ServingError: INVALID_ARGUMENT; the message has both shapes.
        """
        required = self.required_shapes.get(signature_name, {})
        for alias, value in inputs.items():
            check_shape(alias, value.shape, required.get(alias))

    def quick(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> bool:
        """Return whether `run` has proved to take so little time for such inputs that the loop can wait for it."""
        return False

    def joins(self, signature_name: str) -> bool:
        """Return whether rows of several requests may be computed together: no input declares a fixed number of rows."""
        return signature_name in self._joining

    @cached_property
    def _joining(self) -> frozenset[str]:
        """The signatures whose requests may be computed together. Cached, so that it is not determined at each request."""
        shapes = {name: [info.tensor_shape for info in signature.inputs.values()] for name, signature in self.signatures.items()}
        return frozenset(name for name, found in shapes.items() if all(not shape.dim or shape.dim[0].size == -1 for shape in found))

    def close(self) -> None:
        """Free the model once nothing runs."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._running == 0)
        self._free()

    @abstractmethod
    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Implement `run` in the model's runtime."""

    @abstractmethod
    def _free(self) -> None:
        """Implement `close` in the model's runtime."""


class SavedModel(Model):
    """A version in TensorFlow's runtime."""

    def __init__(self, directory: Path, options: ModelOptions) -> None:
        """Load the SavedModel of a directory; see `Session`."""
        super().__init__()
        self._session = Session(directory, options.saved_model_tags, options.session_config, options.run_options)
        self.signatures, self.required_shapes = self._session.signatures, self._session.required_shapes

    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Run the graph. Shapes that could end the process are rejected here; see `shapes`."""
        self.check_shapes(signature_name, inputs)
        signature = self.signatures[signature_name]
        feeds = {signature.inputs[alias].name: value for alias, value in inputs.items()}
        return self._session.run(feeds, [signature.outputs[alias].name for alias in outputs])

    def _free(self) -> None:
        self._session.close()
