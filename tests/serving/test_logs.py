"""Logs: one line a record, and nothing in it that tells who somebody is."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import StorageError, UnknownIdError
from asterism.serving.logs import SALT_VARIABLE, TRACE_ID, Scrubber, configure_logging
from asterism.stores.api_keys import new_key

EMAIL = "ada.lovelace+shop@example.co.uk"
USER = "Ada-Lovelace-1815"
TOKEN = new_key("x", frozenset(), 0.0).token
Lines = Callable[[], list[str]]


@pytest.fixture(params=["json", "text"])
def log_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lines(log_format: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """What was logged since the beginning, as lines."""
    monkeypatch.setenv(SALT_VARIABLE, "salt")
    root, stream = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    configure_logging("gateway", log_format, stream=stream)
    yield lambda: stream.getvalue().splitlines()
    root.handlers[:] = before
    root.setLevel(level)


def foreign(text: str) -> None:
    raise ValueError(f"cannot take {text} here")


def chained(text: str) -> None:
    try:
        foreign(text)
    except ValueError as error:
        raise StorageError(f"user {text!r} cannot be written ({error}); make room") from error


def unknown(text: str) -> None:
    raise UnknownIdError(f"user {text!r} has no events yet")


ERROR_PATHS: list[Callable[[str], None]] = [
    foreign,
    chained,
    lambda text: {}[text],
    lambda text: open(f"/nowhere/{text}").close(),
    lambda text: int(text) and None,
    unknown,
]


@pytest.mark.parametrize(
    "secret",
    [
        USER,
        EMAIL,
        pytest.param(TOKEN, id="token"),
        f"{USER} {EMAIL}",
        f"o'{USER}",
        f'"{USER}"\n{EMAIL}',
        "Åse Ø.",
    ],
)
@pytest.mark.parametrize("path", ERROR_PATHS)
def test_no_error_path_tells_who_it_was(lines: Lines, path: Callable[[str], None], secret: str) -> None:
    log = logging.getLogger("asterism.x")
    try:
        path(secret)
    except Exception as error:
        log.error("request failed", exc_info=error)
        if not isinstance(error, (ValueError, KeyError, OSError)):
            log.warning("it was not recorded: %s", error)
    log.warning("user %r at %s asked by key %s", secret, EMAIL, TOKEN)
    log.warning("GET /api/v1/user/%s/profile and u=%s and (user_id)=(%s) failed", USER, USER, USER)
    told = "\n".join(lines())
    assert len(lines()) >= 3
    for word in (USER, EMAIL, TOKEN[17:], "Lovelace", "Åse", "example.co"):
        assert word not in told, told


def test_a_json_record_is_one_object_on_one_line(lines: Lines, log_format: str) -> None:
    token = TRACE_ID.set("4bf92f3577b34da6a3ce929d0e0e4736")
    try:
        raise StorageError("the disk is full\nand so on; make room")
    except StorageError as error:
        logging.getLogger("asterism.serving").error("two\nlines \x1b[31m", exc_info=error)
    TRACE_ID.reset(token)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    if log_format == "text":
        assert "ERROR gateway asterism.serving [4bf92f3577b34da6a3ce929d0e0e4736]: two" in lines()[0]
        return
    first, second = map(json.loads, lines())
    assert set(first) == {"time", "level", "logger", "message", "role", "trace_id", "error"}
    assert (first["level"], first["logger"], first["role"]) == ("ERROR", "asterism.serving", "gateway")
    assert first["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert first["error"].startswith("StorageError: the disk is full")
    assert "test_logs.py" in first["error"]
    assert first["time"].endswith("+00:00")
    assert set(second) == {"time", "level", "logger", "message", "role"}


def test_what_is_told_stays_useful(lines: Lines) -> None:
    logging.getLogger("x").warning("PostgreSQL at postgresql+psycopg://a:***@db:5432/shop cannot be reached; start it")
    logging.getLogger("x").warning("the header `x-request-timeout-ms` isn't a number, it's none")
    logging.getLogger("x").warning("user %r, again %r, other %r", "ada", "ada", "bob")
    first, second, third = lines()
    assert "db:5432/shop cannot be reached; start it" in first
    assert "the header `x-request-timeout-ms` isn't a number, it's none" in second
    words = [word.strip(",\"'}").partition("'")[0] for word in third.split("'")[1::2]]
    assert (words[0], words[0] == words[2]) == (words[1], False)
    assert all(word.startswith("#") and len(word) == 11 for word in words)


def test_another_salt_gives_other_hashes() -> None:
    one, two = Scrubber(b"one"), Scrubber(b"two")
    assert one.hashed("ada") == Scrubber(b"one").hashed("ada") != two.hashed("ada")


quiet = st.text(alphabet=st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20)


@given(value=quiet)
@settings(max_examples=300)
def test_a_quoted_value_never_comes_out(value: str) -> None:
    marked = f"Zq{value}Zq"
    told = Scrubber(b"salt").scrub(f"user {marked!r} is not known; send {{}} or 'nothing'")
    assert "Zq" not in told
    assert told.startswith("user ")
    assert "is not known" in told


def test_what_to_install_stays_readable() -> None:
    said = "this store needs clickhouse_connect, which is not installed; run: pip install 'asterism[chdb]'"
    assert Scrubber(b"salt").scrub(said) == said
    assert "ada" not in Scrubber(b"salt").scrub("user 'asterism[ada' is unknown")


@pytest.mark.parametrize("said", [None, ""])
def test_without_a_salt_one_is_drawn(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, "")
    if said is None:
        monkeypatch.delenv(SALT_VARIABLE)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_logging("gateway", stream=io.StringIO())
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert len(os.environ[SALT_VARIABLE]) == 32
