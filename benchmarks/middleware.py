"""What a request pays before and after its route: the processor time of frame, guard and limits on bodies.

The layers are driven as the server drives them, around an application that only answers; a request is taken
apart by adding one layer after another, in turns. Nothing is sent over a network.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time

from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asterism.config.guard import GuardConfig
from asterism.core.clock import SystemClock
from asterism.serving.http.gate import Gate
from asterism.serving.http.middleware.bodies import BodyLimits
from asterism.serving.http.middleware.frame import RequestFrame
from asterism.serving.http.middleware.key_ring import KeyRing
from asterism.serving.http.scopes import SCOPES
from asterism.stores.api_keys import LocalApiKeys, new_key

BODY = json.dumps({"user_id": "u1", "count": 10, "scene": "home", "context": {"device": "phone"}}).encode()
ANSWER = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-length", b"2"), (b"content-type", b"application/json")],
}


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """What stands behind the layers: it takes the body and says something."""
    await receive()
    await send({**ANSWER})
    await send({"type": "http.response.body", "body": b"{}"})


async def passing(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """What a middleware of Starlette's own kind does at least."""
    return await call_next(request)


def layers(token: str, keys: LocalApiKeys) -> dict[str, tuple[ASGIApp, KeyRing | None]]:
    """Applications by name, each of ours with a layer more than the one before."""
    ring = KeyRing(keys, SystemClock())
    unlimited = {"instance_per_second": 1e7}
    return {
        "nothing": (answers, None),
        "an empty BaseHTTPMiddleware": (BaseHTTPMiddleware(answers, dispatch=passing), None),
        "frame": (RequestFrame(answers), None),
        "frame, bodies": (RequestFrame(BodyLimits(answers)), None),
        "all, open": (Gate(GuardConfig.model_validate(unlimited)).around(answers), None),
        "all, a key": (Gate(GuardConfig.model_validate(unlimited), ring).around(answers), ring),
        "all, a key with its limit": (
            Gate(GuardConfig.model_validate({**unlimited, "key_per_second": {"recommend": 1e7}}), ring).around(answers),
            ring,
        ),
    }


async def microseconds(app: ASGIApp, headers: list[tuple[bytes, bytes]], requests: int) -> float:
    """Processor time of a request, over so many one after another."""
    message = {"type": "http.request", "body": BODY, "more_body": False}

    async def receive() -> Message:
        return message

    async def send(_: Message) -> None:
        return None

    def scope() -> Scope:
        return {
            "type": "http",
            "method": "POST",
            "path": "/api/v1/recommend",
            "raw_path": b"/api/v1/recommend",
            "query_string": b"",
            "headers": headers,
            "state": {},
        }

    began = time.thread_time()
    for _ in range(requests):
        await app(scope(), receive, send)
    return (time.thread_time() - began) / requests * 1e6


async def measure(requests: int, rounds: int) -> dict[str, float]:
    """The median over the rounds, by layer, less what the bare application costs."""
    keys = LocalApiKeys()
    made = new_key("benchmark", frozenset(SCOPES), time.time())
    keys.add(made.key)
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"accept", b"*/*"),
        (b"user-agent", b"benchmark"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(BODY)).encode()),
        (b"authorization", f"Bearer {made.token}".encode()),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]
    tried = layers(made.token, keys)
    seen: dict[str, list[float]] = {name: [] for name in tried}
    for _ in range(rounds):
        for name, (app, _ring) in tried.items():
            seen[name].append(await microseconds(app, headers, requests))
    for _, ring in tried.values():
        if ring is not None:
            ring.close()
            break
    medians = {name: statistics.median(costs) for name, costs in seen.items()}
    bare = medians.pop("nothing")
    return {name: round(cost - bare, 2) for name, cost in medians.items()}


def main() -> None:
    """Measure, tell it as a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    costs = asyncio.run(measure(arguments.requests, arguments.rounds))
    for name, cost in costs.items():
        print(f"{name:<28} {cost:6.2f} µs")
    print(json.dumps({"benchmark": "middleware", "unit": "µs of processor time a request", **costs}))


if __name__ == "__main__":
    main()
