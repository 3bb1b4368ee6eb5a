"""One way to Redis, single or cluster: a pool with timeouts, tries with jitter, keys that stay in one slot.

Every command names one key, so that a cluster can answer it wherever the key lives. The name of the
user or session stands in a hash tag: whatever is kept for one of them shares its slot.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

from asterism.core.errors import ConfigError, StorageError
from asterism.stores.reaching import Reach, Tries
from asterism.stores.urls import StoreUrl
from asterism.stores.user_state import Visitor

T = TypeVar("T")

_PORT: Final = 6379
_REDIRECTS: Final = 3  # a cluster sends on to the node that has the slot
_TRANSIENT: Final = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
    OSError,
)
#: Out of memory without eviction, within a script too; a disk that takes neither snapshot nor log.
_NO_ROOM: Final = ("OOM command not allowed", "MISCONF")


class Commands(Protocol):
    """The commands that we use; a single Redis and a cluster share them."""

    def hget(self, name: str, key: str) -> Any: ...
    def hgetall(self, name: str) -> Any: ...
    def hmget(self, name: str, keys: list[str]) -> Any: ...
    def get(self, name: str) -> Any: ...
    def set(self, name: str, value: bytes, *, px: int | None = None) -> Any: ...
    def delete(self, *names: str) -> Any: ...
    def exists(self, *names: str) -> Any: ...
    def zrange(self, name: str, start: int, end: int) -> Any: ...
    def zrem(self, name: str, *members: Any) -> Any: ...
    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any: ...
    def scan_iter(self, match: str, count: int) -> Iterator[bytes]: ...
    def info(self, section: str) -> Any: ...
    def execute_command(self, *words: Any) -> Any: ...
    def pipeline(self, transaction: bool) -> Any: ...
    def close(self) -> None: ...


class RedisClient:
    """A pool of connections to one Redis or one cluster, for any number of threads."""

    def __init__(
        self, url: str, *, timeout_seconds: float = 1.0, max_connections: int = 32, tries: Tries | None = None
    ) -> None:
        """Nothing is connected yet; raises `ConfigError` on a malformed URL."""
        parsed = StoreUrl.parse(url)
        parsed.only("prefix")
        self.prefix = parsed.option("prefix", "asterism")
        self.reach = Reach(
            "Redis",
            parsed.shown,
            _TRANSIENT,
            (RedisError, RedisClusterException),
            tries or Tries(deadline_seconds=2 * timeout_seconds),
            signs_of_no_room=_NO_ROOM,
        )
        self._open = _opener(parsed, timeout_seconds, max_connections)
        self._commands: Commands | None = None

    def call(self, action: Callable[[Commands], T]) -> T:
        """Run commands that may be run twice; raises `StoreUnavailableError`, `StorageError`."""
        return self.reach.call(lambda: action(self._connected()))

    def call_together(self, actions: Sequence[Callable[[Commands], Any]]) -> list[Any]:
        """Run commands that may be run twice, one an action, in one exchange; in place of a result, why it was refused.

        Raises `StoreUnavailableError`.
        """

        def together(redis: Commands) -> list[Any]:
            pipeline = redis.pipeline(transaction=False)
            for action in actions:
                action(pipeline)
            found = pipeline.execute(raise_on_error=False)
            for one in found:
                if isinstance(one, _TRANSIENT):
                    raise one
            return [self.reach.refused(one) if isinstance(one, Exception) else one for one in found]

        return self.call(together) if actions else []

    def key(self, room: str, visitor: Visitor) -> str:
        """A visitor's key: `asterism:state:{u:ada}`."""
        kind, name = ("u", visitor.user_id) if visitor.user_id is not None else ("s", visitor.session_id)
        return f"{self.prefix}:{room}:{{{kind}:{tagged(name or '')}}}"

    def version(self) -> str:
        """The server's version; of a cluster, its nodes'."""
        found = self.call(lambda redis: redis.info("server"))
        nodes = [found] if "redis_version" in found else list(found.values())
        return ", ".join(sorted({str(node["redis_version"]) for node in nodes}))

    def close(self) -> None:
        """Let go of all connections."""
        if self._commands is not None:
            self._commands.close()

    def _connected(self) -> Commands:
        if self._commands is None:  # a cluster is asked for its slots here, so it may fail and be tried again
            try:
                self._commands = self._open()
            except RedisClusterException as error:
                raise ConnectionError(str(error)) from error
        return self._commands


def tagged(name: str) -> str:
    """A name for a hash tag: `}` would end the tag early, and an empty tag is none."""
    return name.replace("%", "%25").replace("}", "%7D") or "%"


def untagged(name: str) -> str:
    """The name that `tagged` was given."""
    return "" if name == "%" else name.replace("%7D", "}").replace("%25", "%")


def _opener(url: StoreUrl, timeout_seconds: float, max_connections: int) -> Callable[[], Commands]:
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "health_check_interval": 30,
        "max_connections": max_connections,
    }
    if url.scheme == "redis+cluster":
        host, port = url.address(_PORT)
        user, password = url.login()
        options |= {"username": user or None, "password": password or None, "retry": Retry(NoBackoff(), _REDIRECTS)}
        return lambda: cast(Commands, RedisCluster(host=host, port=port, **options))
    url.address(_PORT)
    number = url.rest.rpartition("@")[2].partition("/")[2]
    if number and not number.isdecimal():  # the library would take 0 for it
        raise ConfigError(f"{url.shown!r}: {number!r} is no database of Redis; they have numbers, as in '…:6379/0'")
    # `Reach` tries again, and knows when to stop
    options |= {"timeout": timeout_seconds, "retry": Retry(NoBackoff(), 0)}
    pool = BlockingConnectionPool.from_url(url.text.partition("?")[0], **options)
    return lambda: cast(Commands, Redis(connection_pool=pool))


_COMPARE_AND_SET: Final = """
local version = redis.call('HGET', KEYS[1], 'version') or ''
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'value', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
_MAX_RACES: Final = 100


def _reading(key: str, version: bytes) -> Callable[[Commands], Any]:
    if version:
        return lambda redis: redis.hget(key, "version")
    return lambda redis: redis.hmget(key, ["version", "value"])


def _looking(mark: str) -> Callable[[Commands], Any]:
    return lambda redis: redis.exists(mark)


class Versioned:
    """Values that many clients change: read, change, and set only if nobody was faster.

    A version is drawn, not counted, so that a value deleted and made anew is never taken for the old one.
    """

    def __init__(self, client: RedisClient, ttl_seconds: float) -> None:
        self._client = client
        self._ttl_ms = int(ttl_seconds * 1000)

    def read(self, key: str) -> tuple[bytes | None, bytes]:
        """The value, or None, and its version."""
        fields: dict[bytes, bytes] = self._client.call(lambda redis: redis.hgetall(key))
        return fields.get(b"value"), fields.get(b"version", b"")

    def read_many_unless(
        self, versions: Sequence[tuple[str, bytes]], marks: Sequence[str] = ()
    ) -> tuple[list[tuple[bytes, bytes | None] | StorageError], set[str]]:
        """Of each key the version and the value, None where there is none or the version is still the one given.

        Or why this one cannot be read. Of a key with a version only the version is asked at first: mostly it is that.
        Beside them, in the same exchange, which of the `marks` there are.
        """
        looks = [*(_reading(key, version) for key, version in versions), *map(_looking, marks)]
        found = self._client.call_together(looks)
        marked = {mark for mark, one in zip(marks, found[len(versions) :], strict=True) if one}
        del found[len(versions) :]
        for place, (_, version) in enumerate(versions):
            if version and not isinstance(found[place], StorageError):
                found[place] = [found[place], None]
        changed = [
            place
            for place, (_, version) in enumerate(versions)
            if version and not isinstance(found[place], StorageError) and found[place][0] != version
        ]
        again = self._client.call_together([_reading(versions[place][0], b"") for place in changed])
        for place, one in zip(changed, again, strict=True):
            found[place] = one
        return [one if isinstance(one, StorageError) else (one[0] or b"", one[1]) for one in found], marked

    def update(self, key: str, change: Callable[[bytes | None], tuple[bytes | None, T]]) -> T:
        """Replace a value by what `change` makes of it, atomically; None leaves it as it is.

        Raises `StorageError` where others were faster a hundred times in a row.
        """
        for _ in range(_MAX_RACES):
            before, version = self.read(key)
            after, result = change(before)
            if after is None or self._set(key, version, after):
                return result
        raise StorageError(f"Redis key {key!r} is changed by too many clients at once; send this again later")

    def _set(self, key: str, version: bytes, value: bytes) -> bool:
        fresh = secrets.token_bytes(8)
        arguments = (key, version, fresh, value, self._ttl_ms)
        return bool(self._client.call(lambda redis: redis.eval(_COMPARE_AND_SET, 1, *arguments)))
