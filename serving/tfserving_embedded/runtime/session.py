"""TensorFlow's runtime through its C API: load and run a SavedModel without holding the GIL.

The C API loads and runs a SavedModel with the same code as TensorFlow Serving. With `ctypes` its long calls release the GIL, so requests
are answered while a version loads, and the slow `import tensorflow` is not needed.

https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/c/c_api.h
"""

import ctypes
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.tfserving_embedded import metrics
from serving.tfserving_embedded.runtime.shapes import required_shapes
from serving.tfserving_embedded.runtime.tensors import NUMPY, data_type
from serving.tfserving_embedded.serving_error import CODES, ServingError

_POINTER = ctypes.c_void_p
_STRING_SIZE = 24  # sizeof(TF_TString)


class _Buffer(ctypes.Structure):
    _fields_ = (("data", _POINTER), ("length", ctypes.c_size_t), ("deallocator", _POINTER))


class _Output(ctypes.Structure):
    _fields_ = (("operation", _POINTER), ("index", ctypes.c_int))


_Signatures = dict[str, tuple[Any, list[Any]]]

_SHORT: _Signatures = {
    "TF_NewStatus": (_POINTER, []),
    "TF_DeleteStatus": (None, [_POINTER]),
    "TF_GetCode": (ctypes.c_int, [_POINTER]),
    "TF_Message": (ctypes.c_char_p, [_POINTER]),
    "TF_NewBuffer": (ctypes.POINTER(_Buffer), []),
    "TF_DeleteBuffer": (None, [ctypes.POINTER(_Buffer)]),
    "TF_NewGraph": (_POINTER, []),
    "TF_GraphOperationByName": (_POINTER, [_POINTER, ctypes.c_char_p]),
    "TF_NewSessionOptions": (_POINTER, []),
    "TF_DeleteSessionOptions": (None, [_POINTER]),
    "TF_SetConfig": (None, [_POINTER, ctypes.c_char_p, ctypes.c_size_t, _POINTER]),
    "TF_AllocateTensor": (_POINTER, [ctypes.c_int, _POINTER, ctypes.c_int, ctypes.c_size_t]),
    "TF_DeleteTensor": (None, [_POINTER]),
    "TF_TensorData": (_POINTER, [_POINTER]),
    "TF_TensorType": (ctypes.c_int, [_POINTER]),
    "TF_NumDims": (ctypes.c_int, [_POINTER]),
    "TF_Dim": (ctypes.c_int64, [_POINTER, ctypes.c_int]),
    "TF_StringInit": (None, [_POINTER]),
    "TF_StringCopy": (None, [_POINTER, ctypes.c_char_p, ctypes.c_size_t]),
    "TF_StringGetDataPointer": (_POINTER, [_POINTER]),
    "TF_StringGetSize": (ctypes.c_size_t, [_POINTER]),
    "memmove": (_POINTER, [_POINTER, _POINTER, ctypes.c_size_t]),
}
"""Functions that keep the GIL: releasing it for a microsecond can mean waiting milliseconds to get it back."""

_LONG: _Signatures = {
    "TF_LoadLibrary": (_POINTER, [ctypes.c_char_p, _POINTER]),
    "TF_DeleteGraph": (None, [_POINTER]),
    "TF_LoadSessionFromSavedModel": (
        _POINTER,
        [_POINTER, _POINTER, ctypes.c_char_p, _POINTER, ctypes.c_int, _POINTER, ctypes.POINTER(_Buffer), _POINTER],
    ),
    "TF_CloseSession": (None, [_POINTER, _POINTER]),
    "TF_DeleteSession": (None, [_POINTER, _POINTER]),
    "TF_SessionRun": (None, [*[_POINTER] * 4, ctypes.c_int, *[_POINTER] * 2, ctypes.c_int, _POINTER, ctypes.c_int, *[_POINTER] * 2]),
}
"""Functions that release the GIL."""


@functools.cache
def _library() -> SimpleNamespace:
    """Load the functions of TensorFlow's shared library that are used here."""
    package = importlib.util.find_spec("tensorflow")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = str(Path(package.submodule_search_locations[0]) / "libtensorflow_cc.so.2")
    functions = {}
    for library, signatures in ((ctypes.PyDLL(path), _SHORT), (ctypes.CDLL(path), _LONG)):
        for name, (result, arguments) in signatures.items():
            functions[name] = getattr(library, name)
            functions[name].restype, functions[name].argtypes = result, arguments
    return SimpleNamespace(**functions)


@functools.cache
def _load_text_operations() -> bool:
    """Load the operations of TensorFlow Text, which are built into TensorFlow Serving.

    Returns:
        Whether it is installed.
    """
    package = importlib.util.find_spec("tensorflow_text")
    if package is None:
        return False
    assert package.submodule_search_locations is not None
    for path in sorted(Path(package.submodule_search_locations[0], "python", "ops").glob("*.so")):
        with _Status() as status:
            _library().TF_LoadLibrary(bytes(path), status)
    return True


class _Status:
    """A `TF_Status`; leaving the block raises its error."""

    def __enter__(self) -> Any:
        self.handle = _library().TF_NewStatus()
        return self.handle

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        code, message = _library().TF_GetCode(self.handle), _library().TF_Message(self.handle)
        _library().TF_DeleteStatus(self.handle)
        if kind is None and code != 0:
            raise ServingError(CODES.get(code, grpc.StatusCode.UNKNOWN), message.decode(errors="replace"))


class Session:
    """A loaded SavedModel. `run` may be called from several threads, but not after `close`.

    Attributes:
        signatures: the model's signatures by name.
        required_shapes: the shapes that inputs must have, by signature and name, with -1 for an open size.
    """

    def __init__(self, directory: Path, tags: Sequence[str], config: config_pb2.ConfigProto, run_options: config_pb2.RunOptions) -> None:
        """Load a SavedModel.

        Args:
            directory: the directory of `saved_model.pb`.
            tags: the tags of the graph to load, usually `serve`.
            config: the configuration of the session: threads, devices.
            run_options: the options of all runs.

        Raises:
            ServingError: it cannot be loaded; code and message are TensorFlow's.
        """
        library = _library()
        options, graph_def = library.TF_NewSessionOptions(), library.TF_NewBuffer()
        self._graph = library.TF_NewGraph()
        self._session = None
        self._outputs: dict[str, _Output] = {}
        self._run_options_bytes = run_options.SerializeToString()
        self._run_options = _Buffer(
            ctypes.cast(ctypes.c_char_p(self._run_options_bytes), _POINTER).value, len(self._run_options_bytes), None
        )
        serialized = config.SerializeToString()
        try:
            with _Status() as status:
                library.TF_SetConfig(options, serialized, len(serialized), status)
            try:
                self._load(options, directory, tags, graph_def)
            except ServingError as error:
                if "Op type not registered" not in error.message:
                    raise
                if not _load_text_operations():
                    hint = "If it is an operation of TensorFlow Text, install tensorflow-text in TensorFlow's version"
                    raise ServingError(error.code, f"{error.message.rstrip('.')}. {hint}") from error
                self._load(options, directory, tags, graph_def)
            meta_graph = meta_graph_pb2.MetaGraphDef.FromString(ctypes.string_at(graph_def.contents.data, graph_def.contents.length))
            self.signatures = {name: _detached(signature) for name, signature in meta_graph.signature_def.items()}
            self.required_shapes = required_shapes(meta_graph)
        except BaseException:
            self.close()
            raise
        finally:
            library.TF_DeleteSessionOptions(options)
            library.TF_DeleteBuffer(graph_def)

    def _load(self, options: Any, directory: Path, tags: Sequence[str], graph_def: Any) -> None:
        tag_array = (ctypes.c_char_p * len(tags))(*(tag.encode() for tag in tags))
        with _Status() as status:
            self._session = _library().TF_LoadSessionFromSavedModel(
                options, None, bytes(directory), tag_array, len(tags), self._graph, graph_def, status
            )

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> list[np.ndarray]:
        """Run the graph.

        Args:
            feeds: values of tensors, by the tensors' names (`serving_default_image:0`).
            fetches: names of the tensors to return.

        Raises:
            ServingError: the runtime rejects the values or fails; code and message are TensorFlow's.
        """
        library = _library()
        feed_outputs = (_Output * len(feeds))(*(self._output(name) for name in feeds))
        fetch_outputs = (_Output * len(fetches))(*(self._output(name) for name in fetches))
        feed_tensors, fetch_tensors = (_POINTER * len(feeds))(), (_POINTER * len(fetches))()
        try:
            for index, value in enumerate(feeds.values()):
                feed_tensors[index] = _to_tensor(value)
            with metrics.graph_run(), _Status() as status:
                library.TF_SessionRun(
                    self._session,
                    ctypes.byref(self._run_options),
                    feed_outputs,
                    feed_tensors,
                    len(feeds),
                    fetch_outputs,
                    fetch_tensors,
                    len(fetches),
                    None,
                    0,
                    None,
                    status,
                )
            return [_to_array(tensor) for tensor in fetch_tensors]
        finally:
            for tensor in (*feed_tensors, *fetch_tensors):
                if tensor:
                    library.TF_DeleteTensor(tensor)

    def close(self) -> None:
        """Free the model. The caller must make sure that nothing is running."""
        library = _library()
        if self._session is not None:
            with _Status() as status:
                library.TF_CloseSession(self._session, status)
            with _Status() as status:
                library.TF_DeleteSession(self._session, status)
        library.TF_DeleteGraph(self._graph)

    def _output(self, name: str) -> _Output:
        if name not in self._outputs:
            operation, _, index = name.partition(":")
            handle = _library().TF_GraphOperationByName(self._graph, operation.encode())
            if not handle:
                raise ServingError(grpc.StatusCode.NOT_FOUND, f"Tensor {name}, specified in the signature, is not in the graph")
            self._outputs[name] = _Output(handle, int(index or 0))
        return self._outputs[name]


def _detached(signature: meta_graph_pb2.SignatureDef) -> meta_graph_pb2.SignatureDef:
    """Return a copy that does not keep the whole `MetaGraphDef` in memory."""
    copy = meta_graph_pb2.SignatureDef()
    copy.CopyFrom(signature)
    return copy


def _to_tensor(array: np.ndarray) -> Any:
    """Create a `TF_Tensor` with a copy of an array's elements."""
    library, kind = _library(), data_type(array)
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    if kind == types_pb2.DT_STRING:
        tensor = library.TF_AllocateTensor(kind, shape, array.ndim, array.size * _STRING_SIZE)
        address = library.TF_TensorData(tensor)
        for index, text in enumerate(array.ravel().tolist()):
            value = text.encode() if isinstance(text, str) else text
            library.TF_StringInit(address + index * _STRING_SIZE)
            library.TF_StringCopy(address + index * _STRING_SIZE, value, len(value))
        return tensor
    contiguous = np.ascontiguousarray(array)
    tensor = library.TF_AllocateTensor(kind, shape, array.ndim, contiguous.nbytes)
    library.memmove(library.TF_TensorData(tensor), contiguous.ctypes.data, contiguous.nbytes)
    return tensor


def _to_array(tensor: Any) -> np.ndarray:
    """Copy the elements of a `TF_Tensor` to an array."""
    library, kind = _library(), _library().TF_TensorType(tensor)
    shape = [library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor))]
    if kind not in NUMPY:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"An output has type {types_pb2.DataType.Name(kind)}, which cannot be sent")
    array = np.empty(shape, NUMPY[kind])
    address = library.TF_TensorData(tensor)
    if kind == types_pb2.DT_STRING:
        flat = array.reshape(-1)
        for index in range(flat.size):
            item = address + index * _STRING_SIZE
            flat[index] = ctypes.string_at(library.TF_StringGetDataPointer(item), library.TF_StringGetSize(item))
    else:
        library.memmove(array.ctypes.data, address, array.nbytes)
    return array
