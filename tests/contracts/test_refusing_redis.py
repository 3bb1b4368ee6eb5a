"""A Redis that answers and refuses: whoever it does not concern goes on as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from redis import Redis

from asterism.core.records import Action
from asterism.serving.hot_state import HotState
from asterism.serving.worker.group import Group, GroupState
from asterism.serving.worker.handlers import States
from asterism.stores.event_bus import Receipt
from asterism.stores.event_log import Event, LocalEventLog
from asterism.stores.local_bus import LocalConsumer, LocalEventBus, buried
from asterism.stores.opening import open_hot
from asterism.stores.user_state import Offset, Visitor
from contracts.redis_server import start_redis
from serving.running import wait_until

ADA, BOB = Visitor("ada"), Visitor("bob")


class NobodyForgotten:
    """What a worker's states ask."""

    def is_past(self, user_id: str | None, published_at: float | None) -> bool:
        return False

    def close(self) -> None:
        pass


def event(number: int, visitor: Visitor) -> Event:
    return Event(f"e{number}", f"i{number}", Action.CLICK, number, visitor.user_id)


def receipts(numbers: Sequence[int]) -> list[Receipt]:
    return [Receipt(True, Offset("local", one)) for one in numbers]


def test_one_visitor_whose_state_is_none_keeps_nobody_from_theirs(redis_url: str, prefix: str) -> None:
    async def use() -> None:
        hot = HotState({}, stores=open_hot(f"{redis_url}?prefix={prefix}"), patience_seconds=60.0)
        await hot.take_in([event(1, BOB)], receipts([1]))
        with Redis.from_url(redis_url) as redis:
            redis.set(f"{prefix}:state:{{u:ada}}", "of another program")
        await hot.take_in([event(2, ADA)], receipts([2]))
        assert (await hot.state_of(BOB)).seen == {"i1"}
        hot.close()

    asyncio.run(use())


def test_a_full_redis_is_read_and_what_it_did_not_take_comes_once_it_has_room(tmp_path: Path) -> None:
    server, port = start_redis(tmp_path / "redis")
    url, folder = f"redis://127.0.0.1:{port}/0", tmp_path / "log"
    bus = LocalEventBus(LocalEventLog(folder), folder)
    group = Group(
        "state",
        lambda: LocalConsumer(folder, "state"),
        lambda: States(open_hot(url, timeout_seconds=60.0), NobodyForgotten()),  # type: ignore[arg-type]
    )

    async def use(redis: Redis) -> None:
        hot = HotState({}, stores=open_hot(url, timeout_seconds=60.0), patience_seconds=60.0)
        await hot.take_in([event(0, BOB)], bus.publish([event(0, BOB)]).result(60))
        redis.config_set("maxmemory", 1)
        await hot.take_in([event(1, ADA)], bus.publish([event(1, ADA)]).result(60))
        assert (await hot.state_of(BOB)).seen == {"i0"}, "reading goes on"
        group.start()
        wait_until(lambda: group.state == GroupState.PAUSED)
        assert "has no room" in (group.last_error or "")
        redis.config_set("maxmemory", 0)
        wait_until(lambda: group.handled == 2)
        assert (await hot.state_of(ADA)).seen == {"i1"}
        hot.close()

    with server, Redis(port=port) as redis:
        asyncio.run(use(redis))
        group.stop()
        assert group.join(60)
    assert buried(folder, "state") == []
    bus.close()
