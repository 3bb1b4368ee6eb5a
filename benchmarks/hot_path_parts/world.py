"""A market for the cached read path: items with full cards, users with histories, and an engine that costs nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from asterism.core import parts
from asterism.core.bundle import Bundle, BundleWriter
from asterism.core.semantic_id import SemanticId
from asterism.serving.ports import EngineAnswer, EngineRequest, ScoredItem

ENGINE = "hot_path_parts.world:load_engine"
EVENTS_PER_USER = 20
_CATEGORIES = 40


def user_ids(users: int) -> list[str]:
    """The users of the market."""
    return [f"user-{number:06d}" for number in range(users)]


def write_market(path: Path, *, items: int, users: int, seed: int) -> Bundle:
    """A bundle whose cards are as long as a shop's: some 500 bytes of JSON each."""
    drawn = np.random.default_rng(seed)
    ids = [f"item-{number:06d}" for number in range(items)]
    rows = range(items)
    writer = BundleWriter(path)
    table = {
        "item_id": ids,
        "title": [f"A thing of brass and glass for quiet evenings, no. {row}" for row in rows],
        "description": [
            f"Made by hand in small numbers; number {row} of its kind, with a box and a cloth" for row in rows
        ],
        "categories": [["everything", f"category {row % _CATEGORIES}"] for row in rows],
        "brand": [f"Brand {row % 97}" for row in rows],
        "price": [5.0 + row % 200 for row in rows],
    }
    pq.write_table(pa.table(table), writer.part(parts.ITEMS))
    wanted = drawn.integers(0, items, (users, EVENTS_PER_USER))
    histories = {
        "user_id": [one for one in user_ids(users) for _ in range(EVENTS_PER_USER)],
        "item_id": [ids[one] for one in wanted.ravel().tolist()],
        "timestamp": [1_700_000_000 + place for _ in range(users) for place in range(EVENTS_PER_USER)],
        "action": ["click"] * (users * EVENTS_PER_USER),
    }
    pq.write_table(pa.table(histories), writer.part(parts.HISTORIES))
    vectors = drawn.normal(size=(items, 16)).astype(np.float32)
    save_file({"vectors": vectors}, writer.part(parts.ITEM_VECTORS))
    return writer.commit({"items": items, "levels": 3, "dataset": "hot path"})


class DrawingEngine:
    """Draws each user's items: the cached path does not ask it, and what it says does not matter there."""

    def __init__(self, item_ids: list[str]) -> None:
        self._codes = {one: (row // 256 % 256, row % 256, row // 65536) for row, one in enumerate(item_ids)}
        self._ids = item_ids

    def recommend(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """See `Engine.recommend`."""
        return [self._answer(one) for one in requests]

    def semantic_ids(self) -> dict[str, SemanticId]:
        """See `Engine.semantic_ids`."""
        return dict(self._codes)

    def _answer(self, request: EngineRequest) -> EngineAnswer:
        drawn = random.Random(request.user_id).sample(self._ids, request.count + len(request.excluded))
        kept = [one for one in drawn if one not in request.excluded][: request.count]
        scored = (ScoredItem(one, -1.25 - place / 7, self._codes[one]) for place, one in enumerate(kept))
        return EngineAnswer(tuple(scored))


def load_engine(bundle: Path) -> DrawingEngine:
    """See `EngineFactory`."""
    return DrawingEngine(pq.read_table(bundle / "items.parquet").column("item_id").to_pylist())
