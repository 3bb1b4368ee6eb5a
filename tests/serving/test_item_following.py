"""What is changed by hand holds for filters, boosts and caps too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asterism.config.loading import parse_reranking_config
from asterism.core.errors import RequestError
from asterism.data.item_attributes import Predicate
from asterism.serving.item_facts import ItemFacts
from asterism.serving.item_following import ItemFollowing
from asterism.serving.recommendation import Boost
from serving.one_process import Shop, in_loop, opened
from serving.one_process import ids as ids_of
from serving.running import Server, ids, wait_until
from serving.small_market import ITEM_IDS, category_of

ITEMS = "/admin/api/v1/items"


@pytest.fixture
def changed(server: Server) -> Iterator[str]:
    """An item that is put back as it was."""
    before = server.http.get(f"{ITEMS}/lamps-00").json()["data"]
    image = server.http.get("/api/v1/item/lamps-00/cover").text
    yield "lamps-00"
    kept = ("title", "description", "categories", "price", "brand", "kind", "created_at")
    server.http.put(f"{ITEMS}/lamps-00", json={name: before[name] for name in kept} | {"image": image})
    wait_until(lambda: "lamps-00" in answered(server, {"max_price": before["price"]}))


def answered(server: Server, filters: dict[str, Any], **more: Any) -> list[str]:
    answer = server.http.post("/api/v1/recommend", json={"filters": filters, "count": 100, **more}).json()
    return ids(answer["data"]) if answer["code"] == 0 else []


def test_filters_go_by_prices_and_categories_as_they_are_now(server: Server, changed: str) -> None:
    server.http.patch(f"{ITEMS}/{changed}", json={"price": 500, "categories": ["chairs"]})
    wait_until(lambda: answered(server, {"min_price": 400}) == [changed])
    assert answered(server, {"categories": ["chairs"]}) == [changed]
    for filters in ({"max_price": 20}, {"categories": ["lamps"]}, {"categories": ["everything"]}):
        found = answered(server, filters)
        assert found
        assert changed not in found
    first = answered(server, {}, count=1, boosts=[{"categories": ["chairs"], "factor": 100}])
    assert first == [changed]


def test_an_item_that_comes_back_is_what_it_comes_back_as(server: Server, changed: str) -> None:
    server.http.delete(f"{ITEMS}/{changed}")
    wait_until(lambda: changed not in answered(server, {"categories": ["lamps"]}))
    server.http.post(ITEMS, json={"item_id": changed, "title": "Mug", "categories": ["mugs"], "price": 3})
    wait_until(lambda: changed in answered(server, {"categories": ["mugs"], "max_price": 4}))
    assert changed not in answered(server, {"categories": ["lamps"]})


def test_what_was_changed_holds_after_a_restart(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running:
        running.http.patch(f"{ITEMS}/lamps-00", json={"price": 500})
    with Server(bundle, tmp_path / "state") as running:
        wait_until(lambda: answered(running, {"min_price": 400}) == ["lamps-00"])


def test_what_was_kept_is_not_given_again_once_a_rule_hides_it(tmp_path: Path) -> None:
    hide = parse_reranking_config({"rules": [{"do": "hide", "categories": ["chairs"]}]})

    async def story(shop: Shop) -> None:
        first = ids_of(await shop.ask())[0]
        shop.real_catalogue.upsert([replace(shop.real_catalogue.get(first), categories=("chairs",))])
        assert first in ids_of(await shop.ask()), "nobody has told the recommender, and this answer is kept"
        facts = shop.recommender.facts
        shop.recommender.prepared_facts(facts.changed([shop.real_catalogue.get(first)]))()
        assert first not in ids_of(await shop.ask())

    with opened(tmp_path, reranking=hide) as shop:
        in_loop(story, shop)


def test_while_the_catalogue_is_down_filters_go_by_what_was_known(tmp_path: Path) -> None:
    dear = Predicate(frozenset(), 400.0)

    async def story(shop: Shop) -> list[list[str]]:
        item = shop.real_catalogue.get("lamps-00")
        shop.catalogue.is_off = True
        following = asyncio.create_task(ItemFollowing(shop.catalogue, shop.recommender).follow())
        shop.real_catalogue.upsert([replace(item, price=500.0)])
        await asyncio.sleep(0)
        found = [ids_of(await shop.ask(wanted=dear))]
        shop.catalogue.is_off = False
        async with asyncio.timeout(60):
            while len(found) == 1:
                await asyncio.sleep(0.02)
                found += [one] if (one := ids_of(await shop.ask("somebody", wanted=dear))) else []
        following.cancel()
        return found

    with opened(tmp_path) as shop:
        assert in_loop(story, shop) == [[], ["lamps-00"]]


def test_another_bundle_says_again_what_was_changed_by_hand(tmp_path: Path) -> None:
    """However the reading of changes meets the deploy: facts come first, the catalogue's rows a while later."""
    dear = Predicate(frozenset(), 400.0)

    async def story(shop: Shop) -> list[list[str]]:
        catalogue, recommender = shop.real_catalogue, shop.recommender
        items = [replace(catalogue.get(one), title=f"{one} again") for one in recommender.item_ids]
        catalogue.upsert([replace(catalogue.get("lamps-00"), price=500.0)])
        following = ItemFollowing(catalogue, recommender)
        await following._look()
        found = [ids_of(await shop.ask("ann", wanted=dear))]
        recommender.prepared(ItemFacts(items), recommender._vectors)()
        await following._look()
        catalogue.sync(items, {}, "another")
        await following._look()
        return [*found, ids_of(await shop.ask("bob", wanted=dear))]

    with opened(tmp_path) as shop:
        assert in_loop(story, shop) == [["lamps-00"], []]


def test_a_scroll_whose_category_loses_its_last_item_ends(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        wanted = Predicate(frozenset({"lamps"}))
        boosts = (Boost(2.0, categories=frozenset({"lamps"})),)
        first = await shop.ask(count=4, wanted=wanted, boosts=boosts)
        assert (len(first.items), first.cursor is None) == (4, False)
        lamps = [one for one in ITEM_IDS if category_of(one) == "lamps"]
        moved = [replace(one, categories=("mugs",)) for one in shop.real_catalogue.many(lamps).values()]
        shop.recommender.prepared_facts(shop.recommender.facts.changed(moved))()
        last = await shop.ask(count=4, wanted=wanted, boosts=boosts, cursor=first.cursor)
        assert (last.items, last.cursor) == ((), None)
        for more in ({"wanted": wanted}, {"boosts": boosts}):
            with pytest.raises(RequestError, match="no item has the category 'lamps'"):
                await shop.ask(count=4, **more)
        either = Predicate(frozenset({"lamps", "tents"}))
        found = ids_of(await shop.ask(count=4, wanted=either, cursor=first.cursor))
        assert {category_of(one) for one in found} == {"tents"}

    with opened(tmp_path) as shop:
        in_loop(story, shop)
