from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Label(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DOWN: _ClassVar[Label]
    GO: _ClassVar[Label]
    LEFT: _ClassVar[Label]
    NO: _ClassVar[Label]
    RIGHT: _ClassVar[Label]
    STOP: _ClassVar[Label]
    UP: _ClassVar[Label]
    YES: _ClassVar[Label]
DOWN: Label
GO: Label
LEFT: Label
NO: Label
RIGHT: Label
STOP: Label
UP: Label
YES: Label

class InferenceRequest(_message.Message):
    __slots__ = ("audio_samples",)
    AUDIO_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    audio_samples: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, audio_samples: _Optional[_Iterable[float]] = ...) -> None: ...

class InferenceResponse(_message.Message):
    __slots__ = ("label",)
    LABEL_FIELD_NUMBER: _ClassVar[int]
    label: Label
    def __init__(self, label: _Optional[_Union[Label, str]] = ...) -> None: ...

class TrainingRequest(_message.Message):
    __slots__ = ("label", "audio_samples")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    AUDIO_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    label: Label
    audio_samples: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, label: _Optional[_Union[Label, str]] = ..., audio_samples: _Optional[_Iterable[float]] = ...) -> None: ...
