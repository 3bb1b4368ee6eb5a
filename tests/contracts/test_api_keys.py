"""One conformance suite for API keys wherever they are kept."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.errors import UnknownIdError
from asterism.stores.api_keys import ApiKey, ApiKeys, LocalApiKeys, digest_of, id_in, new_key
from asterism.stores.sql_api_keys import SqlApiKeys
from asterism.stores.sql_database import Database
from contracts.postgres_server import Postgres

Opener = Callable[[], ApiKeys]
READ = frozenset({"recommend"})


def key(number: int, **more: object) -> ApiKey:
    made = new_key(f"ключ {number} ⭐'; --", frozenset({"recommend", "feedback"}), 1000.0 + number).key
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.fixture(params=["local", "sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the keys of one place, again and again."""
    if request.param == "local":
        only = LocalApiKeys()
        return lambda: only
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.emptied()
    return lambda: SqlApiKeys(Database(url, timeout_seconds=60.0))


def test_a_key_comes_out_as_it_went_in_also_after_reopening(opener: Opener) -> None:
    keys = opener()
    assert (keys.all(), list(keys.changes_after(0).keys), keys.changes_after(0).number) == ([], [], 0)
    second, first = key(2, expires_at=5000), key(1, scopes=frozenset({"é", "a:b"}), revoked_at=7, last_used_at=3600)
    keys.add(second)
    keys.add(first)
    keys.close()
    again = opener()
    assert again.all() == [first, second]
    again.close()


def test_a_change_is_told_once_and_numbers_grow(opener: Opener) -> None:
    keys = opener()
    one, two = key(1), key(2)
    keys.add(one)
    keys.add(two)
    told, number = keys.changes_after(0)
    assert sorted(told, key=lambda each: each.created_at) == [one, two]
    assert list(keys.changes_after(number).keys) == []
    keys.revoke(two.key_id, 77)
    assert list(keys.changes_after(number).keys) == [replace(two, revoked_at=77)]
    assert keys.changes_after(number).number > number
    keys.close()


def test_a_revoked_key_stays_revoked_since_the_first_time(opener: Opener) -> None:
    keys = opener()
    one = key(1)
    keys.add(one)
    keys.revoke(one.key_id, 50)
    keys.revoke(one.key_id, 60)
    assert keys.all() == [replace(one, revoked_at=50)]
    keys.close()


def test_an_end_is_only_ever_brought_forward(opener: Opener) -> None:
    keys = opener()
    one = key(1)
    keys.add(one)
    for asked, ends in ((500, 500), (900, 500), (400, 400)):
        keys.expire(one.key_id, asked)
        assert keys.all() == [replace(one, expires_at=ends)]
    keys.close()


def test_last_use_only_grows_and_is_no_change(opener: Opener) -> None:
    keys = opener()
    one = key(1)
    keys.add(one)
    number = keys.changes_after(0).number
    for hour in (7200, 3600):
        keys.note_used({one.key_id: hour, "unknown": hour})
    assert keys.all() == [replace(one, last_used_at=7200)]
    assert (list(keys.changes_after(number).keys), keys.changes_after(number).number) == ([], number)
    keys.close()


@pytest.mark.parametrize("key_id", ["nobody", "\x00", "'; DROP TABLE api_keys; --", "é⭐"])
def test_an_unknown_key_is_a_sentence(opener: Opener, key_id: str) -> None:
    keys = opener()
    with pytest.raises(UnknownIdError, match="there is no API key"):
        keys.revoke(key_id, 1)
    with pytest.raises(UnknownIdError, match="there is no API key"):
        keys.expire(key_id, 1)
    assert keys.changes_after(0).number == 0, "what did not happen is no change"
    keys.close()


def test_no_change_is_missed_by_who_follows_the_numbers(opener: Opener) -> None:
    keys = opener()
    made = [key(number) for number in range(40)]
    seen: dict[str, ApiKey] = {}
    number = 0
    with ThreadPoolExecutor(4) as pool:
        adding = [pool.submit(keys.add, one) for one in made]
        while len(seen) < len(made):
            is_last = all(one.done() for one in adding)
            told, number = keys.changes_after(number)
            seen |= {one.key_id: one for one in told}
            assert not (is_last and len(seen) < len(made)), "a change below the number was not told"
    assert seen == {one.key_id: one for one in made}
    keys.close()


def test_a_token_names_its_key_and_only_its_digest_is_kept() -> None:
    made = new_key("shop", READ, 0.0)
    token = made.token.encode()
    assert (id_in(token), digest_of(token)) == (made.key.key_id, made.key.digest)
    assert made.token[17:] not in repr(made.key)
    assert len({new_key("x", READ, 0.0).token for _ in range(100)}) == 100
    for bad in (
        b"",
        token[:-1],
        token + b"x",
        token.upper(),
        b" " + token,
        token + b"\n",
        token.replace(b"_", b"-", 1),
    ):
        assert id_in(bad) is None


def test_a_key_is_over_at_its_end_and_once_revoked() -> None:
    assert [key(1, expires_at=10).is_over(now) for now in (9.9, 10.0, 11.0)] == [False, True, True]
    assert key(1, revoked_at=99).is_over(0.0)
    assert not key(1).is_over(1e12)
