"""Every error that Asterism raises on purpose.

    AsterismError                      code
    ├── ConfigError                    10001  a configuration key or value is wrong
    ├── MissingDependencyError         10002  an optional package is not installed
    ├── StorageError                   10003  a store cannot read or write
    │   └── StoreUnavailableError      10005  a store cannot be reached just now
    ├── OverloadedError                10004  no capacity left within the deadline
    ├── RequestError                   20001  a request is malformed
    │   ├── CursorError                20008  a scroll's cursor is not one that an answer held
    │   └── ConflictError              20013  what is asked for does not go with what is there
    ├── DataError                      20002  a file or row breaks the data contract
    ├── UnknownIdError                 20003  a user or item nobody has heard of
    ├── BundleError                    30001  a trained recommender is broken or mismatched
    ├── ModelError                     30002  a model cannot do what it was asked to
    │   └── AbandonedError             30004  nobody waits for the answer any more
    └── TrainingError                  30003  training cannot go on

Codes follow the API's families: 1xxxx system, 2xxxx business, 3xxxx model.
A message says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class AsterismError(Exception):
    """The root of Asterism's own errors; `code` is what the API answers with."""

    code: ClassVar[int] = 10000


class ConfigError(AsterismError):
    """A configuration key or value is wrong."""

    code = 10001


class MissingDependencyError(AsterismError):
    """An optional package is needed here and is not installed."""

    code = 10002


class StorageError(AsterismError):
    """A store cannot read or write."""

    code = 10003
    is_full = False  # whether it lacks room: it refuses whatever is written, though it may take one now and then


class StoreUnavailableError(StorageError):
    """A store cannot be reached, or does not answer in time; the same call may succeed later."""

    code = 10005


class OverloadedError(AsterismError):
    """There is no capacity left to answer within the deadline; there may be in `retry_after_seconds`, where given."""

    code = 10004

    def __init__(self, reason: str, *, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(reason)


class RequestError(AsterismError):
    """A request is malformed."""

    code = 20001


class CursorError(RequestError):
    """A scroll's cursor is not one that an answer held."""

    code = 20008


class ConflictError(RequestError):
    """What is asked for does not go with what is there."""

    code = 20013


class DataError(AsterismError):
    """A file or row breaks the data contract; names the file, line, field and reason."""

    code = 20002

    def __init__(
        self, reason: str, *, file: str | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.reason = reason
        self.file = file
        self.line = line
        self.field = field
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place = f"{place}:{self.line}" if place else f"line {self.line}"
        if self.field is not None:
            place = f"{place}, field `{self.field}`" if place else f"field `{self.field}`"
        return f"{place}: {self.reason}" if place else self.reason


class UnknownIdError(AsterismError):
    """A user or item id is not known."""

    code = 20003


class BundleError(AsterismError):
    """A bundle is broken, or its parts do not belong together."""

    code = 30001


class ModelError(AsterismError):
    """A model cannot do what it was asked to."""

    code = 30002


class AbandonedError(ModelError):
    """Nobody waits for the answer any more, so the model left it."""

    code = 30004


class TrainingError(AsterismError):
    """Training cannot go on."""

    code = 30003
