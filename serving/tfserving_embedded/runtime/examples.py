"""Classification and regression: from `tf.Example`s to classes with scores, or to numbers.

The rules and messages are those of TensorFlow Serving (servables/tensorflow/classifier.cc, regressor.cc, util.cc).
"""

from collections.abc import Mapping

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.tfserving_embedded.runtime.tensors import data_type
from serving.tfserving_embedded.serving_error import invalid_argument

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
INPUT = "inputs"


def serialized_examples(examples: input_pb2.Input) -> np.ndarray:
    """Return the examples of a request as the string tensor (N,) that a signature parses, with a shared context merged into each.

    Raises:
        ServingError: INVALID_ARGUMENT: there are none.
    """
    if examples.WhichOneof("kind") == "example_list_with_context":
        context = examples.example_list_with_context.context.SerializeToString()
        serialized = [context + example.SerializeToString() for example in examples.example_list_with_context.examples]
    else:
        serialized = [example.SerializeToString() for example in examples.example_list.examples]
    if not serialized:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(serialized), object)
    array[:] = serialized
    return array


def classification_outputs(signatures: Mapping[str, meta_graph_pb2.SignatureDef], name: str) -> list[str]:
    """Return the outputs of a classification signature: `classes`, `scores` or both.

    Raises:
        ServingError: there is no such signature, or it does not classify.
    """
    signature = _find(signatures, name, "classification")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    outputs = [alias for alias in ("classes", "scores") if alias in signature.outputs]
    if not outputs:
        raise invalid_argument(
            f'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: {signature}'
        )
    return outputs


def regression_outputs(signatures: Mapping[str, meta_graph_pb2.SignatureDef], name: str) -> list[str]:
    """Return the output of a regression signature.

    Raises:
        ServingError: there is no such signature, or it does not regress.
    """
    signature = _find(signatures, name, "regression")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "outputs" not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature}")
    return ["outputs"]


def _find(signatures: Mapping[str, meta_graph_pb2.SignatureDef], name: str, kind: str) -> meta_graph_pb2.SignatureDef:
    """Find a signature whose single input takes examples. TensorFlow 2 calls every signature's method `predict`, so it is not checked."""
    if name not in signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    signature = signatures[name]
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if INPUT not in signature.inputs:
        raise invalid_argument(f"No {kind} inputs found in SignatureDef: {signature}")
    return signature


def classifications(outputs: Mapping[str, np.ndarray], count: int) -> classification_pb2.ClassificationResult:
    """Convert a classification signature's outputs to a reply.

    Args:
        outputs: `classes` (strings) and `scores` (float32), each (N,classes), or one of them.
        count: N, the number of examples.

    Raises:
        ServingError: INVALID_ARGUMENT: the outputs have another form.
    """
    for alias, kind in (("classes", types_pb2.DT_STRING), ("scores", types_pb2.DT_FLOAT)):
        if alias in outputs:
            _check_matrix(alias, outputs[alias], kind, count)
    if len({array.shape[1] for array in outputs.values()}) != 1:
        shapes = [array.shape[1] for array in outputs.values()]
        raise invalid_argument(f"Tensors class and score should match in dim_size(1). Got {shapes[0]} vs. {shapes[1]}")
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range(next(iter(outputs.values())).shape[1]):
            entry = classes.add()
            if "classes" in outputs:
                entry.label = outputs["classes"][row, column].decode(errors="replace")
            if "scores" in outputs:
                entry.score = outputs["scores"][row, column]
    return result


def _check_matrix(alias: str, array: np.ndarray, kind: int, count: int) -> None:
    if array.ndim != 2:
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    if data_type(array) != kind:
        raise invalid_argument(f"Expected {alias} Tensor of {types_pb2.DataType.Name(kind)}. Got: {_type_name(array)}")
    if len(array) != count:
        raise invalid_argument(f"Expected {alias} output batch size of {count}. Got: {len(array)}")


def regressions(output: np.ndarray, count: int) -> regression_pb2.RegressionResult:
    """Convert a regression signature's output to a reply.

    Args:
        output: float32 (N,) or (N,1).
        count: N, the number of examples.

    Raises:
        ServingError: INVALID_ARGUMENT: the output has another form.
    """
    if output.ndim != 1 and (output.ndim != 2 or output.shape[1] != 1):
        raise invalid_argument(f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(output)}")
    if len(output) != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {len(output)}")
    if data_type(output) != types_pb2.DT_FLOAT:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(output)}")
    result = regression_pb2.RegressionResult()
    for value in output.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type_name(array: np.ndarray) -> str:
    return types_pb2.DataType.Name(data_type(array))
