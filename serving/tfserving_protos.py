"""TensorFlow Serving's messages and stubs, without TensorFlow.

The generated modules of `tensorflow-serving-api` import a few of TensorFlow's messages, and with them all of TensorFlow. That takes
seconds, while a rollback may take two. So during these imports an empty package replaces `tensorflow`; the messages need nothing else of
it.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def messages_alone() -> Iterator[None]:
    """While this context lasts, `import tensorflow.core…` loads that module without TensorFlow, unless TensorFlow is already imported."""
    if "tensorflow" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        raise ImportError("TensorFlow's messages are not installed. Install them: `make setup`")
    package = ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["tensorflow"] = package
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


with messages_alone():
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.framework.types_pb2 import DT_FLOAT, DataType
    from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
    from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
    from tensorflow_serving.apis.model_pb2 import ModelSpec
    from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

__all__ = [
    "DT_FLOAT",
    "DataType",
    "GetModelMetadataRequest",
    "GetModelStatusRequest",
    "ModelConfig",
    "ModelServerConfig",
    "ModelServiceStub",
    "ModelSpec",
    "ModelVersionStatus",
    "PredictRequest",
    "PredictResponse",
    "PredictionServiceStub",
    "ReloadConfigRequest",
    "TensorProto",
]
