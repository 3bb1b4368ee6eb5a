"""Logs of a process: one line a record, of a trace, without what tells who somebody is.

What stands in quotes was given from outside, as our sentences have it, and is replaced by a salted hash;
so are e-mail addresses, keys, and what follows `=` or `/user/`. Of errors that are not ours only the type and
the place are told: nobody knows what their texts hold.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, TextIO

import msgspec

from asterism.core.errors import AsterismError
from asterism.stores.api_keys import TOKEN_PATTERN
from asterism.stores.reaching import MAX_REASON

#: Of the request that is being answered; whoever takes over a request from another process sets it.
TRACE_ID: Final[ContextVar[str | None]] = ContextVar("trace_id", default=None)
#: A deployment's salt: with the same one, a value has the same hash in all processes.
SALT_VARIABLE: Final = "ASTERISM_LOG_SALT"

_PERSONAL: Final = re.compile(
    rf"(?P<key>{TOKEN_PATTERN})"
    r"|(?P<email>[^\s'\"<>()=,;:/*]+@[^\s'\"<>()=,;:/]+\.[^\s'\"<>()=,;:/]+)"
    r"|(?P<open>['\"`])(?P<quoted>(?:\\.|(?!(?P=open))[^\\\n])*)(?P=open)(?!\w)"
    r"|(?<=/user/)(?P<user>[^/\s]+)"
    r"|(?<==)\(?(?P<value>[^\s,;)]+)"
)
_PLAIN: Final = frozenset({"`"})  # names of fields and commands
_EXTRA: Final = re.compile(r"asterism\[[a-z]+\]")  # what a sentence says to install
_encode = msgspec.json.Encoder().encode


class Scrubber:
    """Replaces what may be personal by a hash that only the holder of the salt can compare."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def hashed(self, value: str) -> str:
        """The word that stands for a value."""
        digest = hmac.new(self._salt, value.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"#{digest.hexdigest()[:10]}"

    def scrub(self, text: str) -> str:
        """A text without the values."""
        return _PERSONAL.sub(self._replaced, text)

    def error(self, error: BaseException) -> str:
        """An error's type, place and, where it is ours or the machine's, its sentence; causes come first."""
        told = []
        seen: set[int] = set()
        current: BaseException | None = error
        while current is not None and id(current) not in seen:
            seen.add(id(current))
            told.append(self._one_error(current))
            current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        return "\n".join(reversed(told))

    def _one_error(self, error: BaseException) -> str:
        frames = traceback.extract_tb(error.__traceback__)
        places = "".join(f"\n  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
        said = self.sentence(error)
        return f"{type(error).__name__}{': ' + said if said else ''}{places}"

    def sentence(self, error: BaseException) -> str:
        """What an error of ours or of the machine says, without the words of others that led to it."""
        if isinstance(error, OSError):
            return error.strerror or ""
        if not isinstance(error, AsterismError):
            return ""
        said = str(error)
        cause = error.__cause__ or error.__context__
        while cause is not None:
            if not isinstance(cause, AsterismError):
                for words in (str(cause), *str(cause).splitlines()):
                    if words.strip():
                        said = said.replace(words.strip()[:MAX_REASON], type(cause).__name__)
            cause = cause.__cause__ or cause.__context__
        return self.scrub(said)

    def _replaced(self, found: re.Match[str]) -> str:
        if found["key"]:
            return "ast_#"
        if found["open"]:
            mark, quoted = found["open"], found["quoted"]
            if mark in _PLAIN or not quoted or _EXTRA.fullmatch(quoted):
                return found[0]
            return f"{mark}{self.hashed(quoted)}{mark}"
        value = found["email"] or found["user"] or found["value"]
        return found[0].replace(value, self.hashed(value))


class _Formatter(logging.Formatter):
    def __init__(self, role: str, scrubber: Scrubber) -> None:
        super().__init__()
        self._role = role
        self._scrubber = scrubber

    def _message(self, record: logging.LogRecord) -> str:
        """What was said; of errors among its arguments no more than of those that were raised."""
        given = record.args if isinstance(record.args, tuple) else ()
        if any(isinstance(one, BaseException) for one in given):
            told = (self._told(one) if isinstance(one, BaseException) else one for one in given)
            return self._scrubber.scrub(str(record.msg) % tuple(told))
        return self._scrubber.scrub(record.getMessage())

    def _told(self, error: BaseException) -> str:
        return self._scrubber.sentence(error) or type(error).__name__

    def _error(self, record: logging.LogRecord) -> str | None:
        error = record.exc_info[1] if record.exc_info else None
        return self._scrubber.error(error) if error is not None else None


class JsonLines(_Formatter):
    """An object a record: `time`, `level`, `logger`, `message`, `role`; `trace_id` and `error` where there are such."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._message(record),
            "role": self._role,
        }
        trace_id = TRACE_ID.get()
        if trace_id is not None:
            line["trace_id"] = trace_id
        error = self._error(record)
        if error is not None:
            line["error"] = error
        return _encode(line).decode("utf-8", "replace")


class TextLines(_Formatter):
    """The same for people at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and lines for an error."""
        trace_id = TRACE_ID.get()
        trace = f" [{trace_id}]" if trace_id is not None else ""
        time = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        line = f"{time} {record.levelname} {self._role} {record.name}{trace}: {self._message(record)}"
        error = self._error(record)
        return line if error is None else f"{line}\n{error}"


def configure_logging(
    role: str, log_format: str = "text", level: int = logging.WARNING, stream: TextIO | None = None
) -> None:
    """Send all records to `stream` (stderr), as `text` or `json`; processes that this one starts share its salt."""
    salt = os.environ[SALT_VARIABLE] = os.environ.get(SALT_VARIABLE) or secrets.token_hex(
        16
    )  # an empty one hides nothing
    scrubber = Scrubber(salt.encode())
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((JsonLines if log_format == "json" else TextLines)(role, scrubber))
    logging.basicConfig(level=level, handlers=[handler], force=True)
