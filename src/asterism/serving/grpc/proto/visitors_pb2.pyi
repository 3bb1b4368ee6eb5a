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

class GetSlateInputsRequest(_message.Message):
    __slots__ = ("wishes", "packed_format")
    WISHES_FIELD_NUMBER: _ClassVar[int]
    PACKED_FORMAT_FIELD_NUMBER: _ClassVar[int]
    wishes: _containers.RepeatedCompositeFieldContainer[SlateWish]
    packed_format: int
    def __init__(self, wishes: _Optional[_Iterable[_Union[SlateWish, _Mapping]]] = ..., packed_format: _Optional[int] = ...) -> None: ...

class SlateWish(_message.Message):
    __slots__ = ("visitor", "event")
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    visitor: Visitor
    event: _model_pb2.Event
    def __init__(self, visitor: _Optional[_Union[Visitor, _Mapping]] = ..., event: _Optional[_Union[_model_pb2.Event, _Mapping]] = ...) -> None: ...

class GetSlateInputsResponse(_message.Message):
    __slots__ = ("inputs",)
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[SlateInput]
    def __init__(self, inputs: _Optional[_Iterable[_Union[SlateInput, _Mapping]]] = ...) -> None: ...

class SlateInput(_message.Message):
    __slots__ = ("error", "is_late", "is_cut", "last", "state")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    IS_LATE_FIELD_NUMBER: _ClassVar[int]
    IS_CUT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    error: _model_pb2.Error
    is_late: bool
    is_cut: bool
    last: LastSlate
    state: bytes
    def __init__(self, error: _Optional[_Union[_model_pb2.Error, _Mapping]] = ..., is_late: _Optional[bool] = ..., is_cut: _Optional[bool] = ..., last: _Optional[_Union[LastSlate, _Mapping]] = ..., state: _Optional[bytes] = ...) -> None: ...

class LastSlate(_message.Message):
    __slots__ = ("revision", "scene", "device", "asked")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    scene: str
    device: str
    asked: int
    def __init__(self, revision: _Optional[int] = ..., scene: _Optional[str] = ..., device: _Optional[str] = ..., asked: _Optional[int] = ...) -> None: ...

class KeepSlatesRequest(_message.Message):
    __slots__ = ("slates", "packed_format")
    SLATES_FIELD_NUMBER: _ClassVar[int]
    PACKED_FORMAT_FIELD_NUMBER: _ClassVar[int]
    slates: _containers.RepeatedCompositeFieldContainer[Slate]
    packed_format: int
    def __init__(self, slates: _Optional[_Iterable[_Union[Slate, _Mapping]]] = ..., packed_format: _Optional[int] = ...) -> None: ...

class Slate(_message.Message):
    __slots__ = ("visitor", "items", "revision", "bundle_version", "at_seconds", "scene", "device", "asked", "degraded")
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    visitor: Visitor
    items: bytes
    revision: int
    bundle_version: str
    at_seconds: float
    scene: str
    device: str
    asked: int
    degraded: bool
    def __init__(self, visitor: _Optional[_Union[Visitor, _Mapping]] = ..., items: _Optional[bytes] = ..., revision: _Optional[int] = ..., bundle_version: _Optional[str] = ..., at_seconds: _Optional[float] = ..., scene: _Optional[str] = ..., device: _Optional[str] = ..., asked: _Optional[int] = ..., degraded: _Optional[bool] = ...) -> None: ...

class KeepSlatesResponse(_message.Message):
    __slots__ = ("refused",)
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: _model_pb2.Error
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[_model_pb2.Error, _Mapping]] = ...) -> None: ...
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    refused: _containers.MessageMap[int, _model_pb2.Error]
    def __init__(self, refused: _Optional[_Mapping[int, _model_pb2.Error]] = ...) -> None: ...
