"""Generation itself is held to a request's filters."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from asterism.data.item_attributes import Predicate
from asterism.serving.engine import messages
from asterism.serving.engine.generator import GeneratorEngine
from asterism.serving.ports import EngineRequest
from models.small_ugt import EVERYTHING, ITEMS, make_model
from serving.test_contexts import ITEM_IDS, market, requests, trained

EVEN = frozenset(ITEM_IDS[::2])


@pytest.fixture(scope="module")
def engine() -> GeneratorEngine:
    """Even items are "even", and each costs its number."""
    categories = [["even"] if number % 2 == 0 else ["odd"] for number in range(ITEMS)]
    items = pa.table({"item_id": ITEM_IDS, "categories": categories, "price": [float(one) for one in range(ITEMS)]})
    return GeneratorEngine(replace(trained(make_model(**EVERYTHING), market().users), items=items))


def asked(count: int, **filters: object) -> list[EngineRequest]:
    return requests(market(), count=count, **filters)


def ids(engine: GeneratorEngine, some: list[EngineRequest]) -> list[list[str]]:
    return [[one.item_id for one in answer.items] for answer in engine.recommend(some)]


def test_each_filter_keeps_the_order_of_what_it_lets_through(engine: GeneratorEngine) -> None:
    whole = ids(engine, asked(ITEMS))
    assert all(len(row) == ITEMS for row in whole)
    for filters, passes in (
        ({"wanted": Predicate(frozenset({"even"}))}, lambda one: one in EVEN),
        ({"wanted": Predicate(frozenset({"even", "one of another bundle"}))}, lambda one: one in EVEN),
        ({"wanted": Predicate(highest_price=6.0)}, lambda one: int(one[1:]) <= 6),
        ({"allowed": frozenset({"i03", "i04", "nobody"})}, lambda one: one in {"i03", "i04"}),
        ({"allowed": frozenset({"i03", "i04"}), "wanted": Predicate(frozenset({"even"}))}, lambda one: one == "i04"),
    ):
        assert ids(engine, asked(ITEMS, **filters)) == [[one for one in row if passes(one)] for row in whole]


def test_requests_of_a_batch_do_not_share_their_filters(engine: GeneratorEngine) -> None:
    plain = asked(4)
    mixed = [replace(plain[0], wanted=Predicate(frozenset({"even"}))), plain[1], replace(plain[2], allowed=EVEN)]
    first, second, third = ids(engine, mixed)
    assert first == ids(engine, [mixed[0]])[0]
    assert set(first) <= EVEN
    assert second == ids(engine, plain)[1]
    assert set(third) <= EVEN
    assert len(third) == 4


def test_a_request_that_nothing_answers_is_empty_and_harms_nobody(engine: GeneratorEngine) -> None:
    plain = asked(4)
    unknown = replace(plain[0], wanted=Predicate(frozenset({"no such category"})))
    nothing = replace(plain[1], allowed=frozenset({"nobody"}))
    assert ids(engine, [unknown, nothing, plain[2]]) == [[], [], ids(engine, plain)[2]]


def test_filters_reach_the_engine_as_they_were_sent() -> None:
    sent = EngineRequest((), 3, device="phone", wanted=Predicate(frozenset({"even"}), 1.0), allowed=EVEN)
    body = messages.pack(messages.Batch(1, (sent,)))[messages.LENGTH_BYTES :]
    read = messages.decode_to_engine(body)
    assert isinstance(read, messages.Batch)
    assert read.requests == (sent,)
