"""A loaded version of a model, whichever runtime holds it."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.tfserving.embedded.errors import ServingError
from serving.tfserving.embedded.session import Session
from serving.tfserving.embedded.shapes import check_shape

if TYPE_CHECKING:
    from serving.tfserving.embedded.batching import BatchingParameters


@dataclass(frozen=True)
class ModelOptions:
    """How versions are loaded; the fields are the command line's flags.

    Attributes:
        session_config: of every TensorFlow session.
        run_options: of every run of one.
        saved_model_tags: which graph of a SavedModel.
        prefer_tflite_model: take `model.tflite` where a SavedModel's directory has one.
        num_tflite_interpreters: how many requests a `model.tflite` computes at the same time.
        enable_model_warmup: replay a version's warm-up records before it becomes AVAILABLE.
        num_request_iterations_for_warmup: how often each.
        enable_per_model_batching_parameters: read `batching_params.pbtxt` where a SavedModel's directory has one.
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
    """A loaded version. `run` may be called from several threads, and `close` from any.

    A client that goes away ends its request and not what is computed for it, so a version without requests may still be running:
    `close` waits for that, and `run` refuses what comes later.
    """

    signatures: Mapping[str, meta_graph_pb2.SignatureDef]
    batching: "BatchingParameters | None" = None
    """How its requests are put together, if it has parameters of its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False

    def run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Compute outputs of a signature.

        Args:
            signature_name: one of `signatures`.
            inputs: a value for each of its inputs, by name.
            outputs: names of the outputs wanted, in this order.

        Raises:
            ServingError: the runtime refuses the values or fails.
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

    def quick(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> bool:
        """Whether `run` has proved to take so little time for such inputs that the loop can wait for it."""
        return False

    def joins(self, signature_name: str) -> bool:
        """Whether requests may be computed together, the rows of one below those of another: no input declares how many it has."""
        return signature_name in self._joining

    @cached_property
    def _joining(self) -> frozenset[str]:
        """The signatures whose requests may be: looked at once, and not at each request."""
        shapes = {name: [info.tensor_shape for info in signature.inputs.values()] for name, signature in self.signatures.items()}
        return frozenset(name for name, found in shapes.items() if all(not shape.dim or shape.dim[0].size == -1 for shape in found))

    def close(self) -> None:
        """Free what the model holds, once nothing runs."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._running == 0)
        self._free()

    @abstractmethod
    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """What `run` does, in the model's runtime."""

    @abstractmethod
    def _free(self) -> None:
        """What `close` does, in the model's runtime."""


class SavedModel(Model):
    """A version that TensorFlow's runtime holds."""

    def __init__(self, directory: Path, options: ModelOptions) -> None:
        """Load the SavedModel of a directory; see `Session`."""
        super().__init__()
        self._session = Session(directory, options.saved_model_tags, options.session_config, options.run_options)
        self.signatures = self._session.signatures

    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Run the graph. A shape that could end the process is refused here; see `shapes`."""
        signature, required = self.signatures[signature_name], self._session.required_shapes[signature_name]
        feeds = {}
        for alias, value in inputs.items():
            check_shape(alias, value.shape, required.get(alias))
            feeds[signature.inputs[alias].name] = value
        return self._session.run(feeds, [signature.outputs[alias].name for alias in outputs])

    def _free(self) -> None:
        self._session.close()
