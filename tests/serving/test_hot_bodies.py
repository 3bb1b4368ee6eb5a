"""Two readers of the same bodies: the fast one takes nothing that the described one refuses, and reads it the same."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from asterism.serving.http.hot.bodies import feedback_events, page_key, recommend_request
from asterism.serving.http.requests import FeedbackBody, RecommendBody
from asterism.serving.pages import PageKey
from asterism.serving.recommendation import RecommendRequest
from asterism.stores.event_log import Event

NOW = 1_790_000_000.7
LONGEST = "é" * 256
FACE = "\\ud83d\\ude00"

GOOD_REQUESTS = [
    b"{}",
    b' {"user_id": "u1"} \n',
    b'{"user_id": "u1", "user_id": "u2"}',
    b'{"us\\u0065r_id": "u1"}',
    b'{"user_id": null, "session_id": "s", "count": 100, "scene": "home", "cursor": "", "explain": true}',
    b'{"user_id": "' + LONGEST.encode() + b'", "session_id": "\\u0000"}',
    b'{"user_id": "' + FACE.encode() * 256 + b'"}',
    b'{"context": {"device": "phone"}, "exclude": ["a", "b", "a"], "filters": {}}',
    b'{"context": {}, "filters": {"categories": ["x"], "min_price": 0, "max_price": 1e3, "deny": ["b"]}}',
    b'{"filters": {"allow": ["a", "b"]}}',
    b'{"filters": {"min_price": 3, "max_price": 3.0, "allow": null}}',
    b'{"filters": {"min_price": 1.7976931348623157e308}}',
    b'{"boosts": [{"factor": 1, "items": ["a"]}, {"factor": 0.5, "categories": ["c"], "brands": ["b"]}]}',
    json.dumps({"exclude": ["i"] * 1000, "boosts": [{"factor": 100, "brands": ["b"]}] * 20}).encode(),
]
GOOD_FEEDBACK = [
    b'{"item_id": "i"}',
    b'{"item_id": "i", "action": "purchase", "event_id": "e", "user_id": "u", "session_id": "s", "timestamp": 0}',
    b'{"item_id": "i", "value": -1e308, "scene": "home", "attribution_id": "a", "timestamp": 99999999999999999999999}',
    b'{"item_id": "i", "value": 4, "user_id": null, "event_id": null}',
    b'{"events": [{"item_id": "i", "event_id": "1"}, {"item_id": "j", "event_id": "2", "action": "skip"}]}',
]
#: Allowed, but left to the other reader.
ODD = [
    b'\xef\xbb\xbf{"user_id": "u1"}',
    '{"user_id": "u1"}'.encode("utf-16"),
    b'{"filters": {"deny": 3}, "filters": {"deny": []}}',
]
BAD_REQUESTS = [
    b"", b"{", b"[]", b'"x"', b"null", b"{}x", b'{"user_id": "\xff"}', b'{"user_id": "\\ud800"}', b'{"user_id": ""}',
    b'{"user_id": 7}', b'{"user_id": "' + b"x" * 257 + b'"}', b'{"count": 0}', b'{"count": 101}', b'{"count": 10.0}',
    b'{"count": "10"}', b'{"count": null}', b'{"count": true}', b'{"count": 1e999}', b'{"scene": ""}',
    b'{"scene": "' + b"x" * 65 + b'"}', b'{"cuont": 1}', b'{"explain": 1}', b'{"explain": "true"}', b'{"cursor": 7}',
    b'{"context": null}', b'{"context": {"weather": "rain"}}', b'{"context": {"device": ""}}', b'{"filters": null}',
    b'{"filters": []}', b'{"filters": {"min_price": 9, "max_price": 3}}', b'{"filters": {"min_price": -1}}',
    b'{"filters": {"min_price": NaN}}', b'{"filters": {"max_price": Infinity}}', b'{"filters": {"max_price": 1e999}}',
    b'{"filters": {"max_price": "9"}}', b'{"filters": {"allow": []}}', b'{"filters": {"categories": [""]}}',
    b'{"boosts": null}', b'{"boosts": [{"items": ["a"]}]}', b'{"boosts": [{"factor": 2}]}',
    b'{"boosts": [{"factor": 0, "items": ["a"]}]}', b'{"boosts": [{"factor": 100.5, "items": ["a"]}]}',
    b'{"exclude": "a"}', b'{"exclude": [1]}', b'{"exclude": null}', json.dumps({"exclude": ["i"] * 1001}).encode(),
    json.dumps({"boosts": [{"factor": 1, "items": ["a"]}] * 21}).encode(), b"[" * 5000,
    json.dumps({"boosts": [{"factor": 1, "items": ["a"] * 101}]}).encode(),
]  # fmt: skip
BAD_FEEDBACK = [
    b"{}", b'{"item_id": ""}', b'{"item_id": null}', b'{"item_id": "i", "action": "stare"}', b'{"events": []}',
    b'{"item_id": "i", "action": null}', b'{"item_id": "i", "timestamp": -1}', b'{"item_id": "i", "timestamp": 1.0}',
    b'{"item_id": "i", "value": NaN}', b'{"item_id": "i", "value": "4"}', b'{"item_id": "i", "value": true}',
    b'{"item_id": "i", "value": 1e400}', b'{"item_id": "i", "events": [{"item_id": "j"}]}', b'{"events": [{}]}',
    b'{"events": [{"item_id": "i"}], "action": "click"}', b'{"events": [{"item_id": "i"}], "user_id": null}',
    b'{"events": [{"item_id": "i", "events": []}]}', b'{"events": null}', b'{"item_id": "i", "colour": "red"}',
    json.dumps({"events": [{"item_id": "i"}] * 1001}).encode(),
]  # fmt: skip


def described_request(body: bytes) -> RecommendRequest | None:
    try:
        return RecommendBody.model_validate(json.loads(body)).to_request()
    except (ValueError, ValidationError, RecursionError):
        return None


def described_events(body: bytes) -> list[Event] | None:
    try:
        return FeedbackBody.model_validate(json.loads(body)).to_events(NOW)
    except (ValueError, ValidationError, RecursionError):
        return None


def unnamed(events: list[Event] | None, body: bytes) -> list[Event] | None:
    """Ids that were made, not given, differ; they are checked to be ids."""
    if events is None:
        return None
    assert all(one.event_id for one in events)
    return [one if one.event_id.encode() in body else replace(one, event_id="") for one in events]


@pytest.mark.parametrize("body", GOOD_REQUESTS)
def test_a_good_request_is_read_by_both_alike(body: bytes) -> None:
    assert recommend_request(body) == described_request(body) is not None


@pytest.mark.parametrize("body", GOOD_FEEDBACK)
def test_good_feedback_is_read_by_both_alike(body: bytes) -> None:
    found = unnamed(feedback_events(body, NOW), body)
    assert found == unnamed(described_events(body), body)
    assert found


@pytest.mark.parametrize("body", [*BAD_REQUESTS, *GOOD_FEEDBACK])
def test_a_bad_request_is_refused_by_both(body: bytes) -> None:
    assert recommend_request(body) is described_request(body) is None


@pytest.mark.parametrize("body", [*BAD_FEEDBACK, *BAD_REQUESTS])
def test_bad_feedback_is_refused_by_both(body: bytes) -> None:
    assert feedback_events(body, NOW) is described_events(body) is None


@pytest.mark.parametrize("body", ODD)
def test_what_is_odd_but_allowed_is_left_to_the_other(body: bytes) -> None:
    assert recommend_request(body) is None
    assert described_request(body) is not None


NAMES = ["user_id", "session_id", "count", "scene", "context", "filters", "boosts", "exclude", "cursor", "explain",
         "item_id", "action", "event_id", "timestamp", "value", "events", "attribution_id", "device", "categories",
         "min_price", "max_price", "allow", "deny", "factor", "items", "brands"]  # fmt: skip


def described_key(body: bytes) -> PageKey | None:
    """What the recommender keeps an answer under, of a request that the described reader takes."""
    request = described_request(body)
    if request is None or request.explain or not request.takes_slate or request.visitor.key is None:
        return None
    session_id = request.visitor.session_id if request.visitor.user_id is not None else None
    return PageKey(request.visitor.key, session_id, request.scene, request.device, request.count)


@pytest.mark.parametrize("body", [*GOOD_REQUESTS, *BAD_REQUESTS])
def test_what_an_answer_is_kept_under_is_read_as_the_whole_request_is(body: bytes) -> None:
    assert page_key(body) == described_key(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["click", "", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4).map(json.dumps).map(str.encode))
def test_nothing_is_read_that_the_described_reader_would_refuse_or_read_otherwise(body: bytes) -> None:
    request, events = recommend_request(body), feedback_events(body, NOW)
    assert request is None or request == described_request(body)
    assert events is None or unnamed(events, body) == unnamed(described_events(body), body)
    assert page_key(body) == (described_key(body) if request is not None else None)


WRITTEN = st.from_regex(r"-?[0-9]{1,5}(\.[0-9]{1,20})?(e[0-9]{1,4})?", fullmatch=True)
NUMBERS = st.floats(allow_nan=True).map(str) | st.integers().map(str) | WRITTEN


@settings(max_examples=200)
@given(NUMBERS)
def test_numbers_are_the_same_numbers(number: str) -> None:
    bodies = [f'{{"filters": {{"min_price": {number}}}}}', f'{{"count": {number}}}']
    for body in map(str.encode, bodies):
        request = recommend_request(body)
        assert request is None or request == described_request(body)
    body = f'{{"item_id": "i", "event_id": "e", "value": {number}}}'.encode()
    events = feedback_events(body, NOW)
    assert events is None or events == described_events(body)
