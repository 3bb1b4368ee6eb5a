"""The least that a recommendation server can do: look a list of ids up in Redis and send it."""

from __future__ import annotations

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from starlette.types import Receive, Scope, Send

_encode = msgspec.json.Encoder().encode


class _Asked(msgspec.Struct):
    user_id: str


_decode = msgspec.json.Decoder(_Asked).decode


def fill(socket_path: str, lists: dict[str, list[str]]) -> None:
    """Keep a list of item ids a user."""
    redis = Redis(unix_socket_path=socket_path)
    pipeline = redis.pipeline(transaction=False)
    for user_id, item_ids in lists.items():
        pipeline.rpush(f"slate:{user_id}", *item_ids)
    pipeline.execute()
    redis.close()


class RedisListServer:
    """A raw ASGI application over one connection pool: no cards, no rules, no state, no log of what was shown."""

    def __init__(self, socket_path: str) -> None:
        self._redis = AsyncRedis(unix_socket_path=socket_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        asked = _decode((await receive())["body"])
        found: list[bytes] = await self._redis.lrange(f"slate:{asked.user_id}", 0, 9)  # type: ignore[misc]
        body = _encode({"items": [one.decode() for one in found]})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
