"""What telemetry costs a request: CPU time of a cached answer's parts with and without it; one JSON line at the end."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from prometheus_client import CollectorRegistry

from asterism.serving.recommendation import Recommendation, Source
from asterism.serving.telemetry.gateway_metrics import GatewayMetrics
from asterism.serving.telemetry.instrumented import Telemetry, instrument
from asterism.serving.telemetry.otel import OtelTracer
from asterism.stores.exposure_log import Exposure
from asterism.stores.user_state import NO_STATE, UserState, Visitor

Message = MutableMapping[str, Any]
Call = Callable[[], Awaitable[None]]

TEMPLATES: Final = ["/api/v1/recommend", "/api/v1/feedback", "/api/v1/item/{item_id}", "/api/v1/similar/{item_id}"]
HEADERS: Final = [(b"host", b"here"), (b"content-type", b"application/json"), (b"content-length", b"20")]
ANSWER: Final = Recommendation("a" * 32, Source.MODEL, (), "v", 0.1, cached=True)
EXPOSURE: Final = Exposure("a" * 32, 0, (), "model")
START: Final[Message] = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Final[Message] = {"type": "http.response.body", "body": b"{}"}


class Visits:
    """States and slates of nobody."""

    async def under(self, visitor: Visitor) -> UserState:
        """An empty state."""
        return NO_STATE

    async def slate(self, visitor: Visitor) -> None:
        """None."""


class Engine:
    """Is never asked for a cached answer."""

    status: Any = None

    async def recommend(self, request: Any) -> Any:
        """Nothing."""


class Reranker:
    """Is never asked for a cached answer."""

    def slate(self) -> None:
        """Nothing."""


class Exposures:
    """Takes exposures for nothing."""

    lost = 0

    def record(self, exposure: Exposure) -> None:
        """Nothing."""

    def record_again(self) -> None:
        """Nothing."""


class Feedback:
    """Is not asked here."""

    async def accept(self, events: Any) -> Any:
        """Nothing."""


class Parts:
    """A gateway whose parts do nothing, so that what is left is telemetry."""

    def __init__(self) -> None:
        self.visits: Any = Visits()
        self.engine, self.reranker, self.exposures, self.feedback = Engine(), Reranker(), Exposures(), Feedback()
        self.recommender = self

    def again(self) -> None:
        """Is asked by the lane, which this is not."""

    async def recommend(self, visitor: Visitor) -> Recommendation:
        """As the short road of a kept answer: the state, and the exposure."""
        await self.visits.under(visitor)
        self.exposures.record(EXPOSURE)
        return ANSWER


async def encoded(answer: Recommendation) -> bytes:
    """No bytes."""
    return b""


async def nothing(*_: Message) -> Message:
    """Neither receives nor sends."""
    return BODY


def request(telemetry: Telemetry | None) -> Call:
    """One request through the layers, measured or not."""
    parts, visitor, encoded_in = Parts(), Visitor("u1"), None
    if telemetry is not None:
        instrument(parts, telemetry)  # type: ignore[arg-type]
        encoded_in = telemetry.metrics.stages.encode.observe

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer = await parts.recommend(visitor)
        if encoded_in is None:
            await encoded(answer)
        else:
            started = time.perf_counter()
            await encoded(answer)
            encoded_in(time.perf_counter() - started)
        await send(START)
        await send(BODY)

    served: Any = app if telemetry is None else telemetry.around(telemetry.inside(app), TEMPLATES)

    async def one() -> None:
        scope = {"type": "http", "method": "POST", "path": "/api/v1/recommend", "headers": HEADERS, "state": {}}
        await served(scope, nothing, nothing)

    return one


async def microseconds(calls: dict[str, Call], number: int, rounds: int) -> dict[str, float]:
    """CPU time of one call of each, the median over rounds that take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.thread_time()
            for _ in range(number):
                await call()
            taken[name].append((time.thread_time() - started) / number * 1e6)
    return {name: statistics.median(some) for name, some in taken.items()}


def main() -> None:
    """Print what each form adds to a request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with socket.socket() as silent:  # a collector that never answers: spans are made, queued and dropped
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        forms = {
            "bare": None,
            "metrics": Telemetry(GatewayMetrics(CollectorRegistry()), None),
            "traces_on_none_chosen": Telemetry(
                GatewayMetrics(CollectorRegistry()), OtelTracer(endpoint, "gateway", 0.0)
            ),
            "every_request_traced": Telemetry(
                GatewayMetrics(CollectorRegistry()), OtelTracer(endpoint, "gateway", 1.0)
            ),
        }
        calls = {name: request(one) for name, one in forms.items()}
        found = asyncio.run(microseconds(calls, arguments.number, arguments.rounds))
        for one in forms.values():
            if one is not None:
                one.close()
    added = {name: round(value - found["bare"], 2) for name, value in found.items() if name != "bare"}
    print(json.dumps({"benchmark": "telemetry", "added_us": added, "bare_us": round(found["bare"], 2)}))


if __name__ == "__main__":
    main()
