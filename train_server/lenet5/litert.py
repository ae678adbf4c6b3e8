"""Convert a SavedModel to LiteRT's format, which TensorFlow Serving uses instead with its flag `--prefer_tflite_model`."""

from pathlib import Path

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.lite.python.schema_py_generated import BufferT, MetadataT
from tensorflow.lite.tools import flatbuffer_utils

from train_server.lenet5.trainer import Model

FILE = "model.tflite"  # the name that TensorFlow Serving expects in the SavedModel's directory
SIGNATURE = "serving_default"


def convert(saved_model: Path) -> bytes:
    """Convert a SavedModel to LiteRT, with the same signature and any number of images. Equal weights give equal bytes."""
    # From the directory: a model that is converted from a function can lose its weights without an error.
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(converter.convert()))
    # TensorFlow Serving does not read LiteRT's own signatures. Without the SavedModel's signature in the metadata it would name inputs
    # and outputs after tensors (GetSignatureDefMap in TensorFlow's lite/tools/signature/signature_def_util.cc).
    graph = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes()).meta_graphs[0]
    signature = graph.signature_def[SIGNATURE].SerializeToString(deterministic=True)
    stand_in = b"s" * len(signature)  # the reader expects a string, and Python's FlexBuffers accept only UTF-8 strings
    metadata, buffer = MetadataT(), BufferT()
    metadata.name, metadata.buffer = "signature_defs_metadata", len(model.buffers)
    buffer.data = flexbuffers.Dumps({SIGNATURE: stand_in.decode()}).replace(stand_in, signature)
    model.metadata.append(metadata)
    model.buffers.append(buffer)
    return flatbuffer_utils.convert_object_to_bytearray(model)


def load(file: Path) -> Model:
    """Load a file that `convert` produced."""
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    serve = interpreter.get_signature_runner(SIGNATURE)
    return lambda image: serve(image=image)
