"""Pairs of items that stand near each other in training sequences: drawn, held out, and told from true negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

HELD_OUT_SHARE: Final = 0.05
_MIX = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)


class Drawn(NamedTuple):
    """A batch of pairs."""

    first: NDArray[np.int64]  # (B,)
    second: NDArray[np.int64]  # (B,)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Unordered pairs of different items, each with its windowed count."""

    first: NDArray[np.int64]  # (P,) the smaller index
    second: NDArray[np.int64]  # (P,)
    weights: NDArray[np.float64]  # (P,)

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of(cls, counts: sp.csr_array, usable: NDArray[np.bool_]) -> Pairs:
        """The pairs of a symmetric (items, items) matrix of counts whose items are both usable."""
        upper = sp.triu(counts, k=1).tocoo()
        first, second = (one.astype(np.int64) for one in upper.coords)
        kept = usable[first] & usable[second]
        return cls(first[kept], second[kept], upper.data[kept])

    def split(self) -> tuple[Pairs, Pairs]:
        """(learned from, held out): a hash of the two items decides, whatever the order or the other pairs."""
        key = self.first.astype(np.uint64) * _MIX[0] ^ self.second.astype(np.uint64) * _MIX[1]
        key = (key ^ (key >> np.uint64(31))) * _MIX[2]
        out = (key >> np.uint64(32)) < np.uint64(HELD_OUT_SHARE * 2**32)
        return self._take(~out), self._take(out)

    def draw(self, count: int, rng: np.random.Generator) -> Drawn:
        """Pairs with replacement, in proportion to their counts, each turned either way round."""
        reached = np.cumsum(self.weights)
        picked = np.searchsorted(reached, rng.random(count) * reached[-1], side="right")
        picked = np.minimum(picked, len(self) - 1)
        turned = rng.random(count) < 0.5
        first, second = self.first[picked], self.second[picked]
        return Drawn(np.where(turned, second, first), np.where(turned, first, second))

    def _take(self, kept: NDArray[np.bool_]) -> Pairs:
        return Pairs(self.first[kept], self.second[kept], self.weights[kept])


def log_popularity(counts: sp.csr_array) -> NDArray[np.float32]:
    """(items,) log of the share of drawn pairs that hold the item."""
    of_item = np.asarray(counts.sum(axis=1)).reshape(-1)
    shares = of_item / max(float(of_item.sum()), 1e-12)
    logs: NDArray[np.float32] = np.log(np.maximum(shares, 1e-12)).astype(np.float32)
    return logs


def false_negatives(drawn: Drawn, counts: sp.csr_array) -> NDArray[np.bool_]:
    """(B, B) where the first item of a row and the second of a column are no negatives: equal or seen together.

    Rows of one item would otherwise push away each other's partner. The diagonal, the positives, is False.
    """
    seen = counts[drawn.first][:, drawn.second].toarray() > 0
    seen |= drawn.first[:, None] == drawn.second
    seen |= (drawn.first[:, None] == drawn.first) | (drawn.second[:, None] == drawn.second)
    np.fill_diagonal(seen, False)
    return np.asarray(seen)
