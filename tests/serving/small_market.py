"""A tiny market with a known answer, as a real bundle, and a real engine fitted on it.

Four categories of fifteen items. Every user buys within one category; an item's neighbours in the
log are the items of its category. The engine counts which items were wanted by the same people.
"""

from __future__ import annotations

import time
from collections import defaultdict
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

CATEGORIES = ("lamps", "mugs", "books", "tents")
ITEMS_PER_CATEGORY = 15
USERS = 40
EVENTS_PER_USER = 5
DELAY_FILE = "engine_delay_seconds"  # beside the bundle: so long a batch takes, or until the file is gone
HOLD_FILE = "engine_loads_no_more"  # beside the bundle: while it is there, no engine is loaded
FORGOTTEN_FILE = "forgotten.txt"  # beside the bundle: whom engines were told to forget
LEVELS = 3

ITEM_IDS = [f"{category}-{number:02d}" for category in CATEGORIES for number in range(ITEMS_PER_CATEGORY)]
SOLD_OUT = "mugs-14"
SCRIPTED_SVG = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script><circle r='4'/></svg>"


def category_of(item_id: str) -> str:
    return item_id.partition("-")[0]


def image_of(item_id: str) -> str | None:
    """Inline SVG for most items; one carries a script, one is a path, and tents have none."""
    if item_id == "lamps-00":
        return SCRIPTED_SVG
    if item_id == "lamps-01":
        return "covers/a.png"
    category, _, number = item_id.partition("-")
    if category == "tents":
        return None
    hue = CATEGORIES.index(category) * 90 + int(number) * 5
    return (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 75'>"
        f"<rect width='100' height='75' fill='hsl({hue} 45% 30%)'/>"
        f"<circle cx='50' cy='38' r='{10 + int(number)}' fill='hsl({hue} 70% 70%)'/></svg>"
    )


def items_table() -> pa.Table:
    return pa.table(
        {
            "item_id": ITEM_IDS,
            "title": [f"A star among {category_of(one)}, no. {one[-2:]}" for one in ITEM_IDS],
            "categories": [["everything", category_of(one)] for one in ITEM_IDS],
            "price": [5.0 + position for position in range(len(ITEM_IDS))],
            "image": [image_of(one) for one in ITEM_IDS],
            "available": [one != SOLD_OUT for one in ITEM_IDS],
        }
    )


def histories_table() -> pa.Table:
    rng = np.random.default_rng(7)
    rows = []
    for user in range(USERS):
        start = (user % len(CATEGORIES)) * ITEMS_PER_CATEGORY
        wanted = rng.choice(ITEMS_PER_CATEGORY, EVENTS_PER_USER, replace=False)
        rows += [(f"u{user}", ITEM_IDS[start + item], 1000 + place, "click") for place, item in enumerate(wanted)]
    return pa.table(dict(zip(("user_id", "item_id", "timestamp", "action"), zip(*rows, strict=True), strict=True)))


def item_vectors() -> np.ndarray:
    rng = np.random.default_rng(11)
    centres = np.repeat(np.eye(len(CATEGORIES)), ITEMS_PER_CATEGORY, axis=0)
    return (centres + rng.normal(0, 0.1, centres.shape)).astype(np.float32)


def write_bundle(path: Path, brand: str | None = None, more: str | None = None) -> Bundle:
    """The market's bundle; `brand` makes another one of it, `more` is an item that lies near the last of the others."""
    writer = BundleWriter(path)
    items, vectors = items_table(), item_vectors()
    if more is not None:
        row = {
            "item_id": more,
            "title": f"A newer {category_of(more)}",
            "categories": ["everything", category_of(more)],
        }
        of_it = pa.Table.from_pylist([{**row, "price": 99.0, "image": None, "available": True}], schema=items.schema)
        items, vectors = pa.concat_tables([items, of_it]), np.concatenate([vectors, vectors[-1:]])
    if brand is not None:
        items = items.append_column("brand", [[brand] * len(items)])
    pq.write_table(items, writer.part(parts.ITEMS))
    pq.write_table(histories_table(), writer.part(parts.HISTORIES))
    save_file({"vectors": vectors}, writer.part(parts.ITEM_VECTORS))
    return writer.commit({"items": len(items), "levels": LEVELS, "dataset": "small market"})


class CooccurrenceEngine:
    """Scores an item by how many people wanted it together with the items of the history, newest first."""

    def __init__(self, bundle: Path) -> None:
        self._delay_file = bundle.parent / DELAY_FILE
        baskets: dict[str, set[str]] = defaultdict(set)
        for row in pq.read_table(bundle / "histories.parquet").to_pylist():
            baskets[row["user_id"]].add(row["item_id"])
        self._together: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for basket in baskets.values():
            for one in basket:
                for other in basket - {one}:
                    self._together[one][other] += 1
        self._items: list[str] = pq.read_table(bundle / "items.parquet").column("item_id").to_pylist()

    def recommend(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        if self._delay_file.exists():
            end = time.monotonic() + float(self._delay_file.read_text())
            while self._delay_file.exists() and time.monotonic() < end:
                time.sleep(0.01)
        return [self._answer(request) for request in requests]

    def forget(self, digests: Sequence[str]) -> None:
        """It keeps nothing, and writes down whom it was told to forget."""
        with self._delay_file.with_name(FORGOTTEN_FILE).open("a", encoding="utf-8") as file:
            file.writelines(f"{one}\n" for one in digests)

    def semantic_ids(self) -> dict[str, SemanticId]:
        return {one: self._path(one) for one in self._items}

    def _path(self, item_id: str) -> SemanticId:
        place = self._items.index(item_id)
        return (place // ITEMS_PER_CATEGORY, place % ITEMS_PER_CATEGORY, 0)

    def _answer(self, request: EngineRequest) -> EngineAnswer:
        scores = dict.fromkeys(self._items, 0.0)
        for age, event in enumerate(reversed(request.history)):
            for other, together in self._together[event.item_id].items():
                scores[other] += together / (1 + age)
        allowed = sorted((-score, item) for item, score in scores.items() if item not in request.excluded)
        return EngineAnswer(
            tuple(ScoredItem(item, -score, self._path(item)) for score, item in allowed[: request.count])
        )


def load_engine(bundle: Path) -> CooccurrenceEngine:
    print("a library prints while it loads")  # must not reach the messages on stdout
    while (bundle.parent / HOLD_FILE).exists():
        time.sleep(0.02)
    return CooccurrenceEngine(Bundle.open(bundle).path)
