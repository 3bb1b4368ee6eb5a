"""A shop to serve: the reference shape, a described catalogue, and users with histories; all drawn by a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from asterism.core.bundle import Bundle
from asterism.models.ugt.inference import Precision
from reference_shape import item_ids_of, write_reference_bundle

CATEGORIES = [f"category {number:02d}" for number in range(40)]


def write_shop(path: Path, *, items: int, users: int, seed: int, precision: Precision = "fp32") -> Bundle:
    """A bundle whose users each have a full window of events."""
    random = np.random.default_rng(seed)
    ids = item_ids_of(items)
    catalogue = pa.table(
        {
            "item_id": ids,
            "title": [f"A thing of use, number {number}, in a title of usual length" for number in range(items)],
            "description": [
                f"What number {number} is for, in one sentence as shops have them." for number in range(items)
            ],
            "categories": [[CATEGORIES[one]] for one in random.integers(0, len(CATEGORIES), items)],
            "brand": [f"brand {one:03d}" for one in random.integers(0, 300, items)],
            "price": np.round(random.lognormal(3.0, 1.0, items), 2),
        }
    )
    return write_reference_bundle(path, items=items, users=users, seed=seed, catalogue=catalogue, precision=precision)


def user_ids_of(users: int) -> list[str]:
    """All users' ids."""
    return [f"user-{number:06d}" for number in range(users)]
