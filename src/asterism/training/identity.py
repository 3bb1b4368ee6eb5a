"""What a checkpoint must have been trained on, so that going on from it is going on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from asterism.core.hashing import hash_array
from asterism.data.split import Split


def data_hashes(split: Split) -> list[str | None]:
    """Hashes of all that training reads and is steered by, in a fixed order; None of what the data do not have."""
    return list(_hashes([split.train, split.validation]))


def _hashes(part: Any) -> Iterator[str | None]:
    if part is None:
        yield None
    elif isinstance(part, np.ndarray):
        yield hash_array(part)
    else:
        inner = [getattr(part, one.name) for one in fields(part)] if is_dataclass(part) else part
        for one in inner:
            yield from _hashes(one)
