"""A batch that compiled code reads is answered byte by byte as one that is decoded to objects."""

from __future__ import annotations

import gc
import os
import random
import time
from contextlib import suppress
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.records import ACTION_CODES
from asterism.data.item_attributes import Predicate
from asterism.serving.engine import messages
from asterism.serving.engine.answering import Answering
from asterism.serving.engine.compact import CompactBatch, CompactMessages
from asterism.serving.engine.generator import GeneratorEngine, load_engine
from asterism.serving.engine.inbox import Inbox
from asterism.serving.ports import EngineRequest, HistoryEvent
from asterism.stores.users import digest_of
from reference_shape import item_ids_of, write_reference_bundle

ITEMS = 300
IDS = item_ids_of(ITEMS)
SILENT = os.pipe()[0]  # a service that says nothing more


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> GeneratorEngine:
    return load_engine(write_reference_bundle(tmp_path_factory.mktemp("reference") / "b", items=ITEMS, beam=40).path)


@pytest.fixture(scope="module")
def compact(engine: GeneratorEngine) -> CompactMessages:
    found = CompactMessages.of(IDS, np.zeros((ITEMS, 4), dtype=np.int64))
    if found is None:
        pytest.skip("no C++ compiler here")
    return found


def made(seed: int, rows: int) -> messages.Batch:
    """Requests with known and unknown items, long and odd ids, and no two alike."""
    drawn = random.Random(seed)
    strange = ["", "ü", "item-000001x", "x" * 300, "item-00000"]

    def ids(most: int) -> list[str]:
        return [drawn.choice(IDS if drawn.random() < 0.9 else strange) for _ in range(drawn.randint(0, most))]

    def request() -> EngineRequest:
        moments = [0, 5, 200, 40_000, 1_700_000_000, 2**33, -3, -200]
        history = [
            HistoryEvent(drawn.choice(moments), one, drawn.choice(list(ACTION_CODES)), drawn.choice([None, 2.5]), "app")
            for one in ids(70)
        ]
        return EngineRequest(
            tuple(history),
            drawn.choice([1, 7, 60]),
            frozenset(ids(40)),
            drawn.choice([None, f"user-{drawn.randint(0, 3)}", "ü" * 40]),
            timestamp=drawn.choice([None, 1_700_000_000]),
            deadline=drawn.choice([None, time.monotonic() + 100]),
            trace=drawn.choice([None, "00-ab-cd-01"]),
            background=drawn.random() < 0.5,
        )

    return messages.Batch(seed, tuple(request() for _ in range(rows)), drawn.choice([None, 3, 40]))


def replies(engine: GeneratorEngine, batch: messages.Batch) -> tuple[bytes, bytes]:
    """What is answered by way of arrays, and by way of objects."""
    body = messages.pack(batch)[messages.LENGTH_BYTES :]
    answering, inbox = Answering(engine), Inbox(SILENT)
    read = answering.decode(body)
    assert isinstance(read, CompactBatch)
    found = []
    for one in (read, batch):
        engine.forget([digest_of(request.user_id) for request in batch.requests if request.user_id is not None])
        found.append(messages.pack(answering.reply(one, inbox)))
    return found[0], found[1]


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 40))
def test_bytes_are_those_of_objects(engine: GeneratorEngine, compact: CompactMessages, seed: int, rows: int) -> None:
    batch = made(seed, rows)
    by_arrays, by_objects = replies(engine, batch)
    assert by_arrays == by_objects


def test_what_is_late_or_withdrawn_is_left_out(engine: GeneratorEngine, compact: CompactMessages) -> None:
    batch = made(1, 4)
    late = replace(batch.requests[2], deadline=time.monotonic() - 1)
    batch = messages.Batch(1, (*batch.requests[:2], late, batch.requests[3]))
    found = messages.decode_reply(replies(engine, batch)[0][messages.LENGTH_BYTES :])
    assert [one is None for one in found.answers] == [False, False, True, False]
    body = messages.pack(batch)[messages.LENGTH_BYTES :]
    read = compact.read(body)
    assert read is not None

    class Withdrawing(Inbox):
        def withdrawn(self, batch: int) -> set[int]:
            return {0}

    reply = messages.pack(Answering(engine).reply(read, Withdrawing(SILENT)))
    found = messages.decode_reply(reply[messages.LENGTH_BYTES :])
    assert [one is None for one in found.answers] == [True, False, True, False]


def test_what_asks_for_more_or_is_damaged_is_left_to_objects(compact: CompactMessages) -> None:
    batch = made(2, 3)

    def body(*requests: EngineRequest) -> bytes:
        return messages.pack(messages.Batch(5, requests))[messages.LENGTH_BYTES :]

    whole = body(*batch.requests)
    assert compact.read(whole) is not None
    for more in ({"wanted": Predicate(frozenset({"toys"}))}, {"allowed": frozenset(["item-000001"])}):
        assert compact.read(body(batch.requests[0], replace(batch.requests[1], **more))) is None
    for other in (
        messages.Withdrawn(1, (2,)),
        messages.Forget(("ann",)),
        messages.Availability(frozenset(), frozenset()),
    ):
        assert compact.read(messages.pack(other)[messages.LENGTH_BYTES :]) is None
    for length in range(0, len(whole), 7):
        assert compact.read(whole[:length]) is None
    drawn = random.Random(3)
    for _ in range(3_000):  # nothing that arrives may end the process, and nothing is read that objects would refuse
        damaged = bytearray(whole)
        damaged[drawn.randrange(min(len(damaged), 400))] = drawn.randrange(256)
        if compact.read(bytes(damaged)) is not None:
            assert_readable(bytes(damaged))


def assert_readable(body: bytes) -> None:
    with suppress(UnicodeDecodeError):  # an id that is no text is an id that nobody knows
        assert isinstance(messages.decode_to_engine(body), messages.Batch)


def test_a_mistake_of_the_engine_is_that_batchs_error(engine: GeneratorEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ValueError("broken")

    if engine.read(messages.pack(made(1, 1))[messages.LENGTH_BYTES :]) is None:
        pytest.skip("no C++ compiler here")
    monkeypatch.setattr(engine, "recommend_compact", fail)
    answering = Answering(engine)
    read = answering.decode(messages.pack(made(1, 2))[messages.LENGTH_BYTES :])
    reply = answering.reply(read, Inbox(SILENT))  # type: ignore[arg-type]
    assert reply.error == "ValueError: broken"


def test_a_batch_leaves_nothing_that_a_collection_would_have_to_find(engine: GeneratorEngine) -> None:
    batches = [made(seed, 6) for seed in range(3)]
    answering, inbox = Answering(engine), Inbox(SILENT)
    bodies = [messages.pack(one)[messages.LENGTH_BYTES :] for one in batches]

    def answer(body: bytes) -> None:
        read = answering.decode(body)
        assert isinstance(read, CompactBatch | messages.Batch)
        assert not isinstance(answering.reply(read, inbox), messages.Reply) or isinstance(read, messages.Batch)

    answer(bodies[0])
    gc.collect()
    gc.disable()
    try:
        for body in bodies:
            answer(body)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_answers_name_items_by_any_code_and_any_length() -> None:
    paths = np.array([[0, 127], [128, 255], [256, 65_535], [65_536, 1 << 20]])
    ids = ["a", "b" * 31, "c" * 32, "d" * 70_000]
    compact = CompactMessages.of(ids, paths)
    if compact is None:
        pytest.skip("no C++ compiler here")
    items, scores = np.array([[3, 1, 2], [0, -1, -1]]), np.array([[1.5, -2.0, 0.1], [3.0, 0.0, 0.0]], dtype=np.float32)
    packed = compact.written(np.array([3, 3]), items, scores)
    reply = messages.pack(messages.PackedReply(9, msgspec.Raw(packed)))
    found = messages.decode_reply(reply[messages.LENGTH_BYTES :])
    told = [[(item.item_id, item.score, tuple(item.semantic_id)) for item in one.items] for one in found.answers if one]
    assert told == [
        [(ids[item], float(scores[0, column]), tuple(paths[item].tolist())) for column, item in enumerate([3, 1, 2])],
        [("a", 3.0, (0, 127))],
    ]
