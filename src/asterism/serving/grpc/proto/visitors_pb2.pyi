from asterism.serving.grpc.proto import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Visitor(_message.Message):
    __slots__ = ("user_id", "session_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_id: str
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ...) -> None: ...

class GetUserFeatureRequest(_message.Message):
    __slots__ = ("visitor",)
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    visitor: Visitor
    def __init__(self, visitor: _Optional[_Union[Visitor, _Mapping]] = ...) -> None: ...

class UserFeature(_message.Message):
    __slots__ = ("recent", "seen", "negative", "interests", "segment", "revision")
    class InterestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RECENT_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    INTERESTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    recent: _containers.RepeatedCompositeFieldContainer[_model_pb2.Event]
    seen: _containers.RepeatedScalarFieldContainer[str]
    negative: _containers.RepeatedScalarFieldContainer[str]
    interests: _containers.ScalarMap[str, float]
    segment: str
    revision: int
    def __init__(self, recent: _Optional[_Iterable[_Union[_model_pb2.Event, _Mapping]]] = ..., seen: _Optional[_Iterable[str]] = ..., negative: _Optional[_Iterable[str]] = ..., interests: _Optional[_Mapping[str, float]] = ..., segment: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class Slate(_message.Message):
    __slots__ = ("item_ids", "scores", "codes", "levels", "revision", "bundle_version", "at_seconds", "scene", "device", "asked", "degraded")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    scores: _containers.RepeatedScalarFieldContainer[float]
    codes: _containers.RepeatedScalarFieldContainer[int]
    levels: int
    revision: int
    bundle_version: str
    at_seconds: float
    scene: str
    device: str
    asked: int
    degraded: bool
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., scores: _Optional[_Iterable[float]] = ..., codes: _Optional[_Iterable[int]] = ..., levels: _Optional[int] = ..., revision: _Optional[int] = ..., bundle_version: _Optional[str] = ..., at_seconds: _Optional[float] = ..., scene: _Optional[str] = ..., device: _Optional[str] = ..., asked: _Optional[int] = ..., degraded: _Optional[bool] = ...) -> None: ...

class KeepSlateRequest(_message.Message):
    __slots__ = ("visitor", "slate")
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    SLATE_FIELD_NUMBER: _ClassVar[int]
    visitor: Visitor
    slate: Slate
    def __init__(self, visitor: _Optional[_Union[Visitor, _Mapping]] = ..., slate: _Optional[_Union[Slate, _Mapping]] = ...) -> None: ...

class KeepSlateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LastSlateRequest(_message.Message):
    __slots__ = ("visitor",)
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    visitor: Visitor
    def __init__(self, visitor: _Optional[_Union[Visitor, _Mapping]] = ...) -> None: ...

class LastSlateResponse(_message.Message):
    __slots__ = ("slate",)
    SLATE_FIELD_NUMBER: _ClassVar[int]
    slate: Slate
    def __init__(self, slate: _Optional[_Union[Slate, _Mapping]] = ...) -> None: ...
