"""Tries with jitter, and the sentence at the end of them, by a clock that is handed in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asterism.core.errors import ConfigError, StorageError, StoreUnavailableError, UnknownIdError
from asterism.stores.reaching import Reach, Tries
from asterism.stores.urls import Address, StoreUrl


class Failing:
    """Fails so many times, then answers; keeps the pauses between."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def __call__(self) -> str:
        self.now += 1.0
        if self.errors:
            raise self.errors.pop(0)
        return "here"

    def reach(self, tries: Tries, draw: Callable[[], float] = lambda: 1.0) -> Reach:
        return Reach("Redis", "redis://a", (OSError,), (KeyError,), tries, self.sleep, draw, lambda: self.now)


def test_pauses_double_up_to_the_longest_and_are_drawn_from_the_whole_span() -> None:
    action = Failing(*[OSError("gone")] * 4)
    assert action.reach(Tries(5, 0.1, 0.3, 100.0)).call(action) == "here"
    assert action.pauses == [0.1, 0.2, 0.3, 0.3]
    halves = Failing(OSError("gone"), OSError("gone"))
    halves.reach(Tries(5, 0.1), draw=lambda: 0.5).call(halves)
    assert halves.pauses == [0.05, 0.1]


def test_the_last_failure_becomes_a_sentence() -> None:
    action = Failing(*[OSError("connection refused\nby peer")] * 3)
    with pytest.raises(StoreUnavailableError) as raised:
        action.reach(Tries(3)).call(action)
    assert str(raised.value) == (
        "Redis at redis://a cannot be reached (connection refused); start it, or correct its URL, and try again"
    )
    assert (action.errors, len(action.pauses), raised.value.code) == ([], 2, 10005)


def test_no_try_begins_after_the_deadline() -> None:
    action = Failing(*[OSError("gone")] * 9)
    with pytest.raises(StoreUnavailableError):
        action.reach(Tries(9, 0.1, 0.1, deadline_seconds=2.5)).call(action)
    assert len(action.pauses) == 2, "two tries of a second each, and a third that began before 2.5 s"


def test_a_refusal_and_our_own_errors_are_not_tried_again() -> None:
    refused = Failing(KeyError("no such table"))
    with pytest.raises(StorageError, match=r"Redis at redis://a refused \('no such table'\)") as raised:
        refused.reach(Tries(3)).call(refused)
    assert (refused.pauses, type(raised.value)) == ([], StorageError)
    own = Failing(UnknownIdError("nobody"))
    with pytest.raises(UnknownIdError):
        own.reach(Tries(3)).call(own)
    bug = Failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        bug.reach(Tries(3)).call(bug)


def test_a_url_in_parts() -> None:
    url = StoreUrl.parse("redis://ada:p%40ss@[::1]:7000/2?prefix=shop&ttl_days=3")
    assert (url.scheme, url.rest, url.options) == (
        "redis",
        "ada:p%40ss@[::1]:7000/2",
        {"prefix": "shop", "ttl_days": "3"},
    )
    assert url.address(1) == Address("::1", 7000)
    assert url.login() == ("ada", "p@ss")
    assert StoreUrl.parse("milvus://host/items").login() == ("", "")
    assert StoreUrl.parse("kafka://broker").address(9092) == Address("broker", 9092)
    assert StoreUrl.parse("memory").scheme == "memory"
    assert str(StoreUrl.parse("file:a%20b/c").path()) == "a b/c"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://ada:secret@host:1/0?password=x", "redis://ada:***@host:1/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("s3://host@bucket", "s3://host@bucket"),
        ("redis://host", "redis://host"),
        ("memory", "memory"),
    ],
)
def test_a_secret_is_never_shown(text: str, shown: str) -> None:
    assert StoreUrl.parse(text).shown == shown


@pytest.mark.parametrize("text", ["", ":x", "/var/lib", " redis://x"])
def test_what_is_no_url_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="is no store URL; write it like"):
        StoreUrl.parse(text)


def test_a_url_that_lacks_something_says_what() -> None:
    with pytest.raises(ConfigError, match="names no host and port; write it like 'redis://host:6379'"):
        StoreUrl.parse("redis:///0").address(6379)
    with pytest.raises(ConfigError, match="names no host and port"):
        StoreUrl.parse("redis://host:70000").address(6379)
    with pytest.raises(ConfigError, match="names no folder"):
        StoreUrl.parse("file:").path()
    with pytest.raises(ConfigError, match="unknown option 'prefx'; known here: prefix"):
        StoreUrl.parse("redis://a?prefx=1").only("prefix")
