import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from serving.speech_server.protos import dlserver_pb2 as _dlserver_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecognizeRequest(_message.Message):
    __slots__ = ("pcm", "samples", "model_version", "reject_below")
    PCM_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    REJECT_BELOW_FIELD_NUMBER: _ClassVar[int]
    pcm: bytes
    samples: _containers.RepeatedScalarFieldContainer[float]
    model_version: int
    reject_below: float
    def __init__(self, pcm: _Optional[bytes] = ..., samples: _Optional[_Iterable[float]] = ..., model_version: _Optional[int] = ..., reject_below: _Optional[float] = ...) -> None: ...

class RecognizeResponse(_message.Message):
    __slots__ = ("rejected", "reason", "label", "word", "scores", "model_version")
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    rejected: bool
    reason: str
    label: _dlserver_pb2.Label
    word: str
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    model_version: int
    def __init__(self, rejected: _Optional[bool] = ..., reason: _Optional[str] = ..., label: _Optional[_Union[_dlserver_pb2.Label, str]] = ..., word: _Optional[str] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., model_version: _Optional[int] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("word", "probability", "logit")
    WORD_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    word: str
    probability: float
    logit: float
    def __init__(self, word: _Optional[str] = ..., probability: _Optional[float] = ..., logit: _Optional[float] = ...) -> None: ...

class RecognizeLongRequest(_message.Message):
    __slots__ = ("pcm", "hop_milliseconds", "model_version", "reject_below")
    PCM_FIELD_NUMBER: _ClassVar[int]
    HOP_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    REJECT_BELOW_FIELD_NUMBER: _ClassVar[int]
    pcm: bytes
    hop_milliseconds: int
    model_version: int
    reject_below: float
    def __init__(self, pcm: _Optional[bytes] = ..., hop_milliseconds: _Optional[int] = ..., model_version: _Optional[int] = ..., reject_below: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("start_seconds", "end_seconds", "word", "probability")
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    start_seconds: float
    end_seconds: float
    word: str
    probability: float
    def __init__(self, start_seconds: _Optional[float] = ..., end_seconds: _Optional[float] = ..., word: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class ListLabelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLabelsResponse(_message.Message):
    __slots__ = ("labels",)
    LABELS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[LabelName]
    def __init__(self, labels: _Optional[_Iterable[_Union[LabelName, _Mapping]]] = ...) -> None: ...

class LabelName(_message.Message):
    __slots__ = ("label", "word")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    label: _dlserver_pb2.Label
    word: str
    def __init__(self, label: _Optional[_Union[_dlserver_pb2.Label, str]] = ..., word: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("champion", "loaded", "refused", "reject_below", "operating_points")
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REJECT_BELOW_FIELD_NUMBER: _ClassVar[int]
    OPERATING_POINTS_FIELD_NUMBER: _ClassVar[int]
    champion: int
    loaded: _containers.RepeatedScalarFieldContainer[int]
    refused: _containers.ScalarMap[int, str]
    reject_below: float
    operating_points: _containers.RepeatedCompositeFieldContainer[OperatingPoint]
    def __init__(self, champion: _Optional[int] = ..., loaded: _Optional[_Iterable[int]] = ..., refused: _Optional[_Mapping[int, str]] = ..., reject_below: _Optional[float] = ..., operating_points: _Optional[_Iterable[_Union[OperatingPoint, _Mapping]]] = ...) -> None: ...

class OperatingPoint(_message.Message):
    __slots__ = ("reject_below", "commands_lost", "others_rejected")
    REJECT_BELOW_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_LOST_FIELD_NUMBER: _ClassVar[int]
    OTHERS_REJECTED_FIELD_NUMBER: _ClassVar[int]
    reject_below: float
    commands_lost: float
    others_rejected: float
    def __init__(self, reject_below: _Optional[float] = ..., commands_lost: _Optional[float] = ..., others_rejected: _Optional[float] = ...) -> None: ...

class SuggestRequest(_message.Message):
    __slots__ = ("word", "pcm", "samples")
    WORD_FIELD_NUMBER: _ClassVar[int]
    PCM_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    word: str
    pcm: bytes
    samples: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, word: _Optional[str] = ..., pcm: _Optional[bytes] = ..., samples: _Optional[_Iterable[float]] = ...) -> None: ...

class SuggestResponse(_message.Message):
    __slots__ = ("suggestion",)
    SUGGESTION_FIELD_NUMBER: _ClassVar[int]
    suggestion: Suggestion
    def __init__(self, suggestion: _Optional[_Union[Suggestion, _Mapping]] = ...) -> None: ...

class Suggestion(_message.Message):
    __slots__ = ("id", "label", "state", "reason", "run", "received", "word")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    id: int
    label: _dlserver_pb2.Label
    state: str
    reason: str
    run: str
    received: _timestamp_pb2.Timestamp
    word: str
    def __init__(self, id: _Optional[int] = ..., label: _Optional[_Union[_dlserver_pb2.Label, str]] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., run: _Optional[str] = ..., received: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., word: _Optional[str] = ...) -> None: ...

class ListSuggestionsRequest(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: str
    def __init__(self, state: _Optional[str] = ...) -> None: ...

class ListSuggestionsResponse(_message.Message):
    __slots__ = ("suggestions",)
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    suggestions: _containers.RepeatedCompositeFieldContainer[Suggestion]
    def __init__(self, suggestions: _Optional[_Iterable[_Union[Suggestion, _Mapping]]] = ...) -> None: ...

class UndoSuggestionsRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class UndoSuggestionsResponse(_message.Message):
    __slots__ = ("suggestions",)
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    suggestions: _containers.RepeatedCompositeFieldContainer[Suggestion]
    def __init__(self, suggestions: _Optional[_Iterable[_Union[Suggestion, _Mapping]]] = ...) -> None: ...
