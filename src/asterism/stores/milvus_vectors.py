"""Item vectors in Milvus: unit vectors under the inner product, so that scores are cosines.

The primary key is a hash of the item's id: an id may hold anything, and never becomes part of an expression.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException

from asterism.core.errors import ConfigError, StorageError, UnknownIdError
from asterism.stores.reaching import Reach, Tries
from asterism.stores.urls import StoreUrl
from asterism.stores.vectors import Neighbour, unit_vectors

T = TypeVar("T")

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints what it raises; we tell it once, as a sentence

_PORT: Final = 19530
_INDEXES: Final[dict[str, dict[str, Any]]] = {
    "FLAT": {},
    "HNSW": {"M": 16, "efConstruction": 200},
    "IVF_FLAT": {"nlist": 1024},
    "IVF_SQ8": {"nlist": 1024},
}
_MOST_ANSWERS: Final = 16_384  # that Milvus gives at once
_BATCH: Final = 1_000
_NOT_LOADED: Final = 101
_ID_BYTES: Final = 65_535


class _UnreachableError(Exception):
    """Milvus did not answer."""


class MilvusVectorIndex:
    """Implements `VectorIndex` in a collection: `milvus://user:password@host:19530/items?index=HNSW`."""

    def __init__(self, url: str, *, timeout_seconds: float = 3.0, tries: Tries | None = None) -> None:
        """Nothing is connected yet; raises `ConfigError` on a malformed URL."""
        parsed = StoreUrl.parse(url)
        parsed.only("index")
        host, port = parsed.address(_PORT)
        self._user, self._password = parsed.login()
        self._collection = parsed.rest.rpartition("@")[2].partition("/")[2] or "items"
        self._index = parsed.option("index", "HNSW")
        if self._index not in _INDEXES:
            raise ConfigError(f"{parsed.shown!r}: {self._index!r} is no index; known here: {', '.join(_INDEXES)}")
        self._uri = f"http://{host}:{port}"
        self._timeout_seconds = timeout_seconds
        self._reach = Reach(
            "Milvus",
            parsed.shown,
            (_UnreachableError, OSError),
            (MilvusException,),
            tries or Tries(deadline_seconds=2 * timeout_seconds),
        )
        self._client: Any = None
        self._connecting = threading.Lock()

    def put(self, item_ids: Sequence[str], vectors: NDArray[np.floating]) -> None:
        """See `VectorIndex.put`; makes the collection where there is none."""
        if vectors.ndim == 2 and vectors.shape[1] != (self._width() or vectors.shape[1]):
            raise ValueError(f"vectors of width {vectors.shape[1]} do not fit those of width {self._width()}")
        for one in item_ids:
            if len(one.encode()) > _ID_BYTES:
                raise StorageError(
                    f"item {one[:50]!r}…: an id of more than {_ID_BYTES} bytes is more than Milvus takes"
                )
        fresh = dict(zip(item_ids, unit_vectors(len(item_ids), vectors), strict=True))
        rows = [{"key": _key(one), "item_id": one, "vector": vector} for one, vector in fresh.items()]
        if rows:
            self._call(lambda client: self._make(client, vectors.shape[1]))
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            self._call(lambda client, some=some: client.upsert(self._collection, some, timeout=self._timeout_seconds))  # type: ignore[misc]
        # what is not flushed is found late, and slowly
        self._call(lambda client: client.flush(self._collection, timeout=self._timeout_seconds))

    def nearest(self, item_id: str, count: int, exclude: Collection[str] = ()) -> list[Neighbour]:
        """See `VectorIndex.nearest`; asks for as many more as are left out."""
        asked = self._vectors([item_id]).get(item_id)
        if asked is None:
            raise UnknownIdError(f"item {item_id!r} has no vector in {self._reach.where}")
        left_out = {*exclude, item_id}
        wanted = min(count + len(left_out), _MOST_ANSWERS)
        answers = self._call(
            lambda client: client.search(
                self._collection,
                data=[asked.tolist()],
                limit=wanted,
                output_fields=["item_id"],
                search_params={"params": {"ef": max(wanted, 64)}} if self._index == "HNSW" else {},
                consistency_level="Strong",
                timeout=self._timeout_seconds,
            )
        )
        found = (Neighbour(hit["entity"]["item_id"], float(hit["distance"])) for hit in answers[0])
        return [one for one in found if one.item_id not in left_out][:count]

    def similarities(self, item_ids: Sequence[str], others: Sequence[str]) -> NDArray[np.float32]:
        """See `VectorIndex.similarities`."""
        known = self._vectors([*item_ids, *others])
        if not known:
            return np.zeros((len(item_ids), len(others)), np.float32)
        nothing = np.zeros(len(next(iter(known.values()))), np.float32)
        rows, columns = (
            np.array([known.get(one, nothing) for one in ids], np.float32).reshape(len(ids), len(nothing))
            for ids in (item_ids, others)
        )
        cosines: NDArray[np.float32] = rows @ columns.T
        return cosines

    def drop(self) -> None:
        """Delete the collection."""
        self._call(lambda client: client.drop_collection(self._collection, timeout=self._timeout_seconds))

    def version(self) -> str:
        """The server's version."""
        return str(self._call(lambda client: client.get_server_version(timeout=self._timeout_seconds)))

    def __len__(self) -> int:
        if self._width() is None:
            return 0
        counted = self._call(
            lambda client: client.query(
                self._collection,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=self._timeout_seconds,
            )
        )
        return int(counted[0]["count(*)"])

    def close(self) -> None:
        """See `VectorIndex.close`."""
        if self._client is not None:
            self._client.close()

    def _vectors(self, item_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        keys = list(dict.fromkeys(map(_key, item_ids)))
        if not keys or self._width() is None:
            return {}
        found: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(keys), _BATCH):
            rows = self._call(
                lambda client, some=keys[start : start + _BATCH]: client.get(  # type: ignore[misc]
                    self._collection, ids=some, output_fields=["item_id", "vector"], timeout=self._timeout_seconds
                )
            )
            found |= {row["item_id"]: np.asarray(row["vector"], np.float32) for row in rows}
        return found

    def _width(self) -> int | None:
        """How wide the collection's vectors are, or None where there is none yet."""

        def ask(client: Any) -> int | None:
            if not client.has_collection(self._collection, timeout=self._timeout_seconds):
                return None
            fields = client.describe_collection(self._collection, timeout=self._timeout_seconds)["fields"]
            return next(int(field["params"]["dim"]) for field in fields if field["name"] == "vector")

        return self._call(ask)

    def _make(self, client: Any, width: int) -> None:
        if client.has_collection(self._collection, timeout=self._timeout_seconds):
            return
        schema = client.create_schema(auto_id=False)
        schema.add_field("key", DataType.INT64, is_primary=True)
        schema.add_field("item_id", DataType.VARCHAR, max_length=_ID_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=width)
        index = client.prepare_index_params()
        index.add_index("vector", index_type=self._index, metric_type="IP", params=_INDEXES[self._index])
        client.create_collection(self._collection, schema=schema, index_params=index, timeout=self._timeout_seconds)

    def _call(self, action: Callable[[Any], T]) -> T:
        def ask() -> T:
            try:
                return action(self._connected())
            except MilvusException as error:
                if self._client is None or _is_silence(error):
                    raise _UnreachableError(error.message or str(error)) from error
                if error.code == _NOT_LOADED:  # a server that was started again does not load by itself
                    self._client.load_collection(self._collection, timeout=self._timeout_seconds)
                    raise _UnreachableError("the collection was not in its memory") from error
                raise
            except grpc.RpcError as error:
                raise _UnreachableError(str(error)) from error

        return self._reach.call(ask)

    def _connected(self) -> Any:
        with self._connecting:
            if self._client is None:
                self._client = MilvusClient(
                    uri=self._uri, user=self._user, password=self._password, timeout=self._timeout_seconds
                )
            return self._client


def _is_silence(error: MilvusException) -> bool:
    """Whether the error is the client's own: out of time or without a connection."""
    return isinstance(error.__cause__ or error.__context__, grpc.RpcError) or any(
        word in str(error).lower() for word in ("deadline", "unavailable", "timeout", "fail connecting")
    )


def _key(item_id: str) -> int:
    digest = hashlib.blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
