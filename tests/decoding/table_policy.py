"""A small real policy whose answers are looked up in random tables, and worlds to decode in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.models.policy import HistoryBatch

TASTES = 13
PREFIX_CLASSES = 101


class TablePolicy:
    """A user is the sum of their items modulo 13; a prefix is its hash modulo 101; both have logits of their own.

    `coarse` rounds logits to whole numbers, so that many items tie.
    """

    def __init__(self, codebook_sizes: tuple[int, ...], items: int, seed: int = 0, *, coarse: bool = False) -> None:
        random = torch.Generator().manual_seed(seed)
        self.codebook_sizes = codebook_sizes
        self.max_events = 5
        self.calls: list[tuple[int, ...]] = []  # the shapes of prefixes asked about
        self.of_taste = [torch.randn((TASTES, size), generator=random) * 2 for size in codebook_sizes]
        self.of_prefix = [torch.randn((PREFIX_CLASSES, size), generator=random) * 2 for size in codebook_sizes]
        self.of_item = torch.randn((TASTES, items), generator=random) * 3
        if coarse:
            self.of_taste = [torch.zeros_like(one) for one in self.of_taste]
            self.of_prefix = [one.sign().clamp(min=0) for one in self.of_prefix]
            self.of_item = self.of_item.sign()

    def encode(self, histories: HistoryBatch) -> Tensor:
        return torch.where(histories.mask, histories.items + 1, 0).sum(dim=1, keepdim=True).remainder(TASTES).float()

    def next_code_log_probs(self, state: Tensor, prefixes: Tensor) -> Tensor:
        rows, _, level = prefixes.shape
        assert rows == len(state)
        for one in range(level):  # a real embedding would fail on such a code
            assert prefixes[:, :, one].min() >= 0
            assert prefixes[:, :, one].max() < self.codebook_sizes[one]
        self.calls.append(tuple(prefixes.shape))
        powers = torch.tensor([pow(31, power, 2**40) for power in range(level)], dtype=torch.long)
        hashes = (prefixes * powers).sum(dim=2)
        logits = self.of_prefix[level][hashes.remainder(PREFIX_CLASSES)] + self.of_taste[level][state[:, :1].long()]
        return logits.log_softmax(dim=2)

    def item_scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        scores = self.of_item[state[:, 0].long()]
        return scores if items is None else scores.gather(1, items)


def random_table(codebook_sizes: tuple[int, ...], items: int, seed: int = 0) -> SemanticIdTable:
    """Distinct random paths; fewer than `items` where there are not so many."""
    random = np.random.default_rng(seed)
    paths = np.stack([random.integers(0, size, size=4 * items) for size in codebook_sizes], axis=1)
    distinct = np.unique(paths, axis=0)
    return SemanticIdTable(random.permutation(distinct)[:items], codebook_sizes)


def random_histories(rows: int, items: int, seed: int = 0, longest: int = 9) -> Sequences:
    """Histories of 0 to `longest` events."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, longest + 1, size=rows))])
    events = int(offsets[-1])
    return Sequences(
        offsets,
        random.integers(0, items, size=events).astype(np.int32),
        np.arange(events, dtype=np.int64),
        np.ones(events, dtype=np.int8),
    )
