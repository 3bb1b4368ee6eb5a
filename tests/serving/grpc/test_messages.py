"""Requests, answers, errors and statuses come back from their messages as they went in."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import AsterismError, BundleError, DataError, ModelError, OverloadedError, RequestError
from asterism.core.records import Action
from asterism.data.item_attributes import Predicate
from asterism.serving.engine.status import EngineStatus, ReplicaStatus
from asterism.serving.features.asking import engine_request
from asterism.serving.grpc import errors
from asterism.serving.grpc.compile import PROTO_FOLDER, compile_protos
from asterism.serving.grpc.descriptions import NO_FIGURES, description_of, merged, status_of
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.queries import PACKED_FORMAT, answer_of, query_of, request_of, result_of
from asterism.serving.ports import EngineAnswer, EngineRequest, HistoryEvent, ScoredItem
from asterism.stores.user_state import RecentEvent, UserState

TEXT = st.text(max_size=8)
MAYBE = st.none() | TEXT
EVENTS = st.builds(
    HistoryEvent,
    st.integers(-(2**40), 2**40),
    TEXT,
    st.sampled_from([one.value for one in Action]),
    st.none() | st.floats(allow_nan=False),
    MAYBE,
    MAYBE,
)
PREDICATES = st.builds(
    Predicate, st.frozensets(TEXT, max_size=3), st.none() | st.floats(0, 10), st.none() | st.floats(10, 20)
)
REQUESTS = st.builds(
    EngineRequest,
    st.lists(EVENTS, max_size=4).map(tuple),
    st.integers(1, 10_000),
    excluded=st.frozensets(TEXT, max_size=4),
    user_id=MAYBE,
    timestamp=st.none() | st.integers(0, 2**40),
    scene=MAYBE,
    device=MAYBE,
    wanted=st.none() | PREDICATES,
    allowed=st.none() | st.frozensets(TEXT, max_size=3),
    background=st.booleans(),
)


@settings(max_examples=150)
@given(REQUESTS, st.sampled_from([PACKED_FORMAT, PACKED_FORMAT + 1]))
def test_a_request_is_read_as_it_was_sent(request: EngineRequest, packed_format: int) -> None:
    query = model_pb2.Query.FromString(query_of(request, packed_format).SerializeToString())
    assert bool(query.packed) == (packed_format == PACKED_FORMAT)
    assert request_of(query, None) == request


@pytest.mark.parametrize("packed_format", [PACKED_FORMAT, PACKED_FORMAT + 1])
def test_a_state_s_events_are_sent_as_they_are(packed_format: int) -> None:
    assert HistoryEvent._fields == RecentEvent._fields
    recent = (RecentEvent(1, "a", Action.RATING, 4.0, "home", "phone"), RecentEvent(2, "b", Action.CLICK))
    asked = engine_request(UserState(recent), user_id="u", count=3, timestamp=9)
    read = request_of(query_of(asked, packed_format), None)
    assert read.history == (
        HistoryEvent(1, "a", "rating", 4.0, "home", "phone"),
        HistoryEvent(2, "b", "click"),
    )
    assert {type(one) for one in read.history} == {HistoryEvent}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": 0}, "`count` is 0; ask for 1 to 10000 items"),
        ({"count": 10**9}, "`count` is 1000000000"),
        (
            {"history": (HistoryEvent(1, "a", "click"), HistoryEvent(1, "a", "nonsense"))},
            "action 'nonsense' is unknown",
        ),
        ({"history": (HistoryEvent(2**63 + 5, "a", "click"),)}, "does not fit into 64 bits"),
        ({"timestamp": 2**63}, "does not fit into 64 bits"),
    ],
    ids=["none", "many", "action", "moment", "now"],
)
def test_a_packed_query_is_held_to_what_plain_fields_are(changes: dict[str, Any], said: str) -> None:
    query = query_of(replace(EngineRequest((), 1), **changes), PACKED_FORMAT)
    assert query.packed
    with pytest.raises(RequestError, match=said):
        request_of(query, None)


@pytest.mark.parametrize("packed_format", [PACKED_FORMAT, PACKED_FORMAT + 1])
def test_the_time_that_is_left_travels_as_a_span_and_else_the_calls_time_counts(packed_format: int) -> None:
    request = EngineRequest((), 3, deadline=time.monotonic() + 75.0)

    def read_deadline(sent: EngineRequest) -> tuple[float, float, float]:
        """What is read, between what it would be if the clock had stood still and if all had taken no time."""
        before = time.monotonic()
        read = request_of(query_of(sent, packed_format), call_seconds=9.0).deadline
        assert read is not None
        return before, read, time.monotonic()

    before, read, after = read_deadline(request)
    assert request.deadline is not None
    assert request.deadline - 1e-3 <= read <= request.deadline + after - before + 1e-3
    before, read, after = read_deadline(replace(request, deadline=None))
    assert before + 9.0 <= read <= after + 9.0
    late = query_of(replace(request, deadline=time.monotonic() - 1), packed_format)
    assert late.budget_us == 0


def test_an_answer_is_read_as_it_was_sent() -> None:
    items = (ScoredItem("a", -0.25, (1, 2, 300)), ScoredItem("b", -1.5, (0, 255, 4)))
    for answer in (EngineAnswer(items, "v1", 50, True), EngineAnswer((), "v1"), EngineAnswer(items[:1], "v2", None)):
        for packed in (True, False):
            sent = model_pb2.Result.FromString(result_of(answer, packed=packed).SerializeToString())
            assert answer_of(sent) == answer


def test_codes_that_do_not_go_with_the_items_are_refused() -> None:
    result = model_pb2.Result(item_ids=["a", "b"], scores=[1, 2], codes=[1, 2, 3], levels=2)
    with pytest.raises(RequestError, match="2 items of 2 codes came with 3 codes"):
        answer_of(result)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (model_pb2.Query(packed=b"\xc1"), "cannot be read"),
        (model_pb2.Query(packed=b"\x80"), "cannot be read"),
        (model_pb2.Query(count=0), "`count` is 0"),
        (model_pb2.Query(count=10_001), "`count` is 10001"),
        (model_pb2.Query(count=1, history=[model_pb2.Event(item_id="a", action="stare")]), "'stare' is unknown"),
        (
            model_pb2.Query(count=1, wanted=model_pb2.Predicate(lowest_price=2, highest_price=1)),
            "no price lies between",
        ),
    ],
)
def test_a_query_that_makes_no_sense_is_a_sentence(query: model_pb2.Query, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        request_of(query, None)


@pytest.mark.parametrize(
    "error",
    [
        ModelError("it fails"),
        BundleError("it is broken"),
        RequestError("too long"),
        DataError("a row", file="x"),
        OverloadedError("busy"),
        OverloadedError("busy", retry_after_seconds=0.25),
    ],
)
def test_an_error_keeps_its_kind_its_sentence_and_its_pause(error: AsterismError) -> None:
    sent = model_pb2.Error.FromString(errors.message_of(error).SerializeToString())
    read = errors.error_of(sent)
    assert (type(read), str(read)) == (type(error), str(error))
    if isinstance(error, OverloadedError):
        assert isinstance(read, OverloadedError)
        assert read.retry_after_seconds == error.retry_after_seconds


def test_every_code_of_ours_that_a_call_may_end_with_has_a_status_of_its_own_kind() -> None:
    assert all(status.value[0] not in {0, 2} for status in errors.STATUS_OF_CODE.values()), "neither OK nor UNKNOWN"


def status(*, ready: bool, pid: int, answered: int, batches: int, mean_rows: float) -> EngineStatus:
    figures = NO_FIGURES._replace(answered=answered, batches=batches, mean_rows=mean_rows, widths={50: batches})
    replica = ReplicaStatus(ready, pid, 1, None if ready else "it died", {"states": 7})
    return EngineStatus(ready, pid, 1, replica.error, "v1", (50, 25), (replica,), figures)


def test_a_status_is_read_as_it_was_sent() -> None:
    up = status(ready=True, pid=5, answered=3, batches=2, mean_rows=1.5)
    down = status(ready=False, pid=6, answered=0, batches=0, mean_rows=0.0)
    for one in (up, down):
        message = description_of(one, refusal=None, items=9)
        assert status_of(model_pb2.Description.FromString(message.SerializeToString())) == one


def test_several_engines_are_one_status_whose_counts_are_sums() -> None:
    down = status(ready=False, pid=6, answered=1, batches=1, mean_rows=4.0)
    up = status(ready=True, pid=5, answered=3, batches=3, mean_rows=2.0)
    both = merged([down, up])
    assert (both.ready, both.pid, both.starts, both.error, len(both.engines)) == (True, 5, 2, "it died", 2)
    figures = both.figures
    assert (figures.answered, figures.batches, figures.mean_rows, figures.widths) == (4, 4, 2.5, {50: 4})
    assert both.processes == (down, up)
    assert merged([down]) is down


def test_the_modules_are_what_the_proto_files_say(tmp_path: Path) -> None:
    compile_protos(tmp_path)
    made = {one.name: one.read_text() for one in tmp_path.rglob("*_pb2*")}
    kept = {one.name: one.read_text() for one in PROTO_FOLDER.glob("*_pb2*") if one.suffix in {".py", ".pyi"}}
    assert len(made) == 6
    assert made == kept, "run: python -m asterism.serving.grpc.compile"
