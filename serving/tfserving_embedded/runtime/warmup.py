"""Warm-up: requests stored with a version and replayed before it answers its first one (TensorFlow's docs: SavedModel Warmup)."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import message
from tensorflow_serving.apis import classification_pb2, prediction_log_pb2, regression_pb2

from serving.tfserving_embedded.runtime import examples, signatures
from serving.tfserving_embedded.runtime.model import Model
from serving.tfserving_embedded.runtime.tensors import to_array
from serving.tfserving_embedded.serving_error import ServingError, invalid_argument

REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000


def warm_up(model: Model, directory: Path, iterations: int) -> None:
    """Replay the records of a version, if it has any.

    Args:
        model: the loaded version.
        directory: the directory that it was loaded from.
        iterations: how often each record is replayed.

    Raises:
        ServingError: the records cannot be read, or the model does not answer them.
    """
    path = directory / REQUESTS
    if not path.is_file():
        return
    for number, record in enumerate(_records(path)):
        if number == MAX_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except message.DecodeError as error:
            raise invalid_argument(f"Failed to parse warmup record: number {number} from {path}") from error
        for _ in range(iterations):
            _replay(model, log)


def _records(path: Path) -> Iterator[bytes]:
    """Return the records of a TFRecord file: length (8 bytes), its checksum (4), the record, its checksum (4).

    The checksums are not verified: a damaged record does not parse, or the version rejects it.
    """
    with path.open("rb") as file:
        while header := file.read(12):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else -1
            record = file.read(length) if 0 <= length <= path.stat().st_size else b""
            if len(record) != length or len(file.read(4)) != 4:
                raise ServingError(
                    grpc.StatusCode.DATA_LOSS, f"truncated record in {path}. Please verify your warmup data is in TFRecord format."
                )
            yield record


def _replay(model: Model, log: prediction_log_pb2.PredictionLog) -> None:
    match log.WhichOneof("log_type"):
        case "predict_log":
            request = log.predict_log.request
            inputs = {alias: to_array(proto, alias) for alias, proto in request.inputs.items()}
            _run(model, request.model_spec.signature_name, inputs, list(request.output_filter))
        case "classify_log":
            _replay_examples(model, log.classify_log.request)
        case "regress_log":
            _replay_examples(model, log.regress_log.request)
        case "multi_inference_log":
            values = examples.serialized_examples(log.multi_inference_log.request.input)
            for task in log.multi_inference_log.request.tasks:
                _run(model, task.model_spec.signature_name, {examples.INPUT: values}, [])
        case other:
            raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {other}")


def _replay_examples(model: Model, request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest) -> None:
    _run(model, request.model_spec.signature_name, {examples.INPUT: examples.serialized_examples(request.input)}, [])


def _run(model: Model, name: str, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str]) -> None:
    name = name or signatures.DEFAULT_SIGNATURE
    signature = signatures.find_signature(model.signatures, name)
    model.run(name, signatures.complete_inputs(signature, inputs), signatures.select_outputs(signature, output_filter))
