from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictRequest(_message.Message):
    __slots__ = ("queries",)
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[Query]
    def __init__(self, queries: _Optional[_Iterable[_Union[Query, _Mapping]]] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("user_ids", "digests")
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, user_ids: _Optional[_Iterable[str]] = ..., digests: _Optional[_Iterable[str]] = ...) -> None: ...

class ForgetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Asked(_message.Message):
    __slots__ = ("numbers", "queries", "withdrawn")
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    numbers: _containers.RepeatedScalarFieldContainer[int]
    queries: _containers.RepeatedCompositeFieldContainer[Query]
    withdrawn: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, numbers: _Optional[_Iterable[int]] = ..., queries: _Optional[_Iterable[_Union[Query, _Mapping]]] = ..., withdrawn: _Optional[_Iterable[int]] = ...) -> None: ...

class Answered(_message.Message):
    __slots__ = ("numbers", "results")
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    numbers: _containers.RepeatedScalarFieldContainer[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, numbers: _Optional[_Iterable[int]] = ..., results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("packed", "budget_us", "history", "count", "excluded", "user_id", "timestamp", "scene", "device", "wanted", "allowed", "background")
    PACKED_FIELD_NUMBER: _ClassVar[int]
    BUDGET_US_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    packed: bytes
    budget_us: int
    history: _containers.RepeatedCompositeFieldContainer[Event]
    count: int
    excluded: _containers.RepeatedScalarFieldContainer[str]
    user_id: str
    timestamp: int
    scene: str
    device: str
    wanted: Predicate
    allowed: ItemList
    background: bool
    def __init__(self, packed: _Optional[bytes] = ..., budget_us: _Optional[int] = ..., history: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., count: _Optional[int] = ..., excluded: _Optional[_Iterable[str]] = ..., user_id: _Optional[str] = ..., timestamp: _Optional[int] = ..., scene: _Optional[str] = ..., device: _Optional[str] = ..., wanted: _Optional[_Union[Predicate, _Mapping]] = ..., allowed: _Optional[_Union[ItemList, _Mapping]] = ..., background: _Optional[bool] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("item_id", "timestamp", "action", "value", "scene", "device")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    timestamp: int
    action: str
    value: float
    scene: str
    device: str
    def __init__(self, item_id: _Optional[str] = ..., timestamp: _Optional[int] = ..., action: _Optional[str] = ..., value: _Optional[float] = ..., scene: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class Predicate(_message.Message):
    __slots__ = ("categories", "lowest_price", "highest_price")
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    LOWEST_PRICE_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_PRICE_FIELD_NUMBER: _ClassVar[int]
    categories: _containers.RepeatedScalarFieldContainer[str]
    lowest_price: float
    highest_price: float
    def __init__(self, categories: _Optional[_Iterable[str]] = ..., lowest_price: _Optional[float] = ..., highest_price: _Optional[float] = ...) -> None: ...

class ItemList(_message.Message):
    __slots__ = ("item_ids",)
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("error", "packed", "item_ids", "scores", "codes", "levels", "bundle_version", "beam", "degraded")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BEAM_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    error: Error
    packed: bytes
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    scores: _containers.RepeatedScalarFieldContainer[float]
    codes: _containers.RepeatedScalarFieldContainer[int]
    levels: int
    bundle_version: str
    beam: int
    degraded: bool
    def __init__(self, error: _Optional[_Union[Error, _Mapping]] = ..., packed: _Optional[bytes] = ..., item_ids: _Optional[_Iterable[str]] = ..., scores: _Optional[_Iterable[float]] = ..., codes: _Optional[_Iterable[int]] = ..., levels: _Optional[int] = ..., bundle_version: _Optional[str] = ..., beam: _Optional[int] = ..., degraded: _Optional[bool] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "retry_after_seconds")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    retry_after_seconds: float
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., retry_after_seconds: _Optional[float] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("ready", "error", "refusal", "bundle_version", "widths", "replicas", "figures", "packed_format", "items")
    READY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    WIDTHS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    PACKED_FORMAT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    ready: bool
    error: str
    refusal: str
    bundle_version: str
    widths: _containers.RepeatedScalarFieldContainer[int]
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    figures: Figures
    packed_format: int
    items: int
    def __init__(self, ready: _Optional[bool] = ..., error: _Optional[str] = ..., refusal: _Optional[str] = ..., bundle_version: _Optional[str] = ..., widths: _Optional[_Iterable[int]] = ..., replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ..., figures: _Optional[_Union[Figures, _Mapping]] = ..., packed_format: _Optional[int] = ..., items: _Optional[int] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("ready", "pid", "starts", "error", "kept_bytes")
    class KeptBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    READY_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    KEPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    ready: bool
    pid: int
    starts: int
    error: str
    kept_bytes: _containers.ScalarMap[str, int]
    def __init__(self, ready: _Optional[bool] = ..., pid: _Optional[int] = ..., starts: _Optional[int] = ..., error: _Optional[str] = ..., kept_bytes: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Figures(_message.Message):
    __slots__ = ("waiting", "under_way", "answered", "degraded", "shed", "late", "withdrawn", "failed", "batches", "mean_rows", "widths", "speed", "spread", "lone_ms", "full_ms")
    class WidthsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    WAITING_FIELD_NUMBER: _ClassVar[int]
    UNDER_WAY_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    MEAN_ROWS_FIELD_NUMBER: _ClassVar[int]
    WIDTHS_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    LONE_MS_FIELD_NUMBER: _ClassVar[int]
    FULL_MS_FIELD_NUMBER: _ClassVar[int]
    waiting: int
    under_way: int
    answered: int
    degraded: int
    shed: int
    late: int
    withdrawn: int
    failed: int
    batches: int
    mean_rows: float
    widths: _containers.ScalarMap[int, int]
    speed: float
    spread: float
    lone_ms: float
    full_ms: float
    def __init__(self, waiting: _Optional[int] = ..., under_way: _Optional[int] = ..., answered: _Optional[int] = ..., degraded: _Optional[int] = ..., shed: _Optional[int] = ..., late: _Optional[int] = ..., withdrawn: _Optional[int] = ..., failed: _Optional[int] = ..., batches: _Optional[int] = ..., mean_rows: _Optional[float] = ..., widths: _Optional[_Mapping[int, int]] = ..., speed: _Optional[float] = ..., spread: _Optional[float] = ..., lone_ms: _Optional[float] = ..., full_ms: _Optional[float] = ...) -> None: ...

class SemanticIdsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SemanticIdPage(_message.Message):
    __slots__ = ("bundle_version", "levels", "item_ids", "codes")
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    bundle_version: str
    levels: int
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    codes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, bundle_version: _Optional[str] = ..., levels: _Optional[int] = ..., item_ids: _Optional[_Iterable[str]] = ..., codes: _Optional[_Iterable[int]] = ...) -> None: ...

class SwapRequest(_message.Message):
    __slots__ = ("bundle", "version")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    version: str
    def __init__(self, bundle: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...
