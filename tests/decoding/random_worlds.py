"""Random small worlds for properties that hold whatever the catalogue, the model, the filters and the request."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from asterism.config import DecodingConfig
from asterism.data.sequences import Sequences
from asterism.decoding import Exclusions, Generator, ItemFilter, Trie
from asterism.decoding.content import ContentHead
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.neighbours import NeighbourHead
from decoding.table_policy import TablePolicy, random_histories, random_table

LONGEST = 9


class RandomWorld:
    """A catalogue, a model with all heads, and rows with histories, filters and lists of what to leave out."""

    def __init__(self, sizes: tuple[int, ...], items: int, rows: int, share: float, coarse: bool, seed: int) -> None:
        """`share`: of the catalogue that filters, exclusions and what is unavailable leave out, each."""
        self.random = np.random.default_rng(seed)
        self.table = random_table(sizes, items, seed)
        self.items, self.rows = len(self.table), rows
        self.policy = TablePolicy(sizes, self.items, seed, coarse=coarse)
        self.histories = random_histories(rows, self.items, seed, LONGEST)
        self.unavailable = np.flatnonzero(self.random.random(self.items - 1) < share / 2)
        self.excluded = [np.flatnonzero(self.random.random(self.items) < share) for _ in range(rows)]
        masks = self.random.random((rows, self.items)) >= share
        kinds = self.random.integers(0, 4, rows)
        self.filters = [_filter(kind, mask) for kind, mask in zip(kinds.tolist(), masks, strict=True)]
        #: (rows, items) what each row may be given.
        self.allowed = np.where((kinds == 0)[:, None], True, masks)
        self.allowed[:, self.unavailable] = False
        for row in range(rows):
            self.allowed[row, self.excluded[row]] = False
            self.allowed[row, self.histories.items[self.histories.row(row)]] = False
        content = self.random.normal(size=(self.items, 4)).astype(np.float32)
        others = random_histories(30, self.items, seed + 1, LONGEST)
        self.heads = HistoryHeads(ContentHead(content), NeighbourHead.learn(others, self.items))

    def decoding(self, beam: int, kept: int = 0) -> DecodingConfig:
        """With random weights of all heads."""
        item, code, content, neighbour = self.random.choice([0.0, 0.5, 2.0], 4).tolist()
        return DecodingConfig(
            beam=beam,
            kept=kept,
            item_weight=item + 0.1,
            code_weight=code,
            content_weight=content,
            neighbour_weight=neighbour,
        )

    def generator(self, config: DecodingConfig) -> Generator:
        return Generator(self.policy, self.table, config, heads=self.heads)

    def asked(self, rows: slice = slice(None)) -> dict[str, Any]:
        """What is to be left out, as `Generator.recommend` takes it."""
        return {
            "exclude_history": True,
            "unavailable": self.unavailable,
            "excluded": self.excluded[rows],
            "filters": self.filters[rows],
        }

    def histories_of(self, rows: slice) -> Sequences:
        return self.histories.take(np.arange(self.rows)[rows])

    def constraints(self, trie: Trie, rows: slice = slice(None)) -> dict[str, Any]:
        """The same as the searches themselves take it."""
        of_rows = [np.flatnonzero(~one) for one in self.allowed[rows]]
        pairs = np.repeat(np.arange(len(of_rows)), [len(one) for one in of_rows]), np.concatenate(of_rows)
        return {"exclusions": Exclusions.of_pairs(trie.snapshot(), *pairs), "filters": self.filters[rows]}

    def check(self, found: NDArray[np.int64], counts: NDArray[np.int64] | int, allowed: NDArray[np.bool_]) -> None:
        """As many items as were asked for or are left, each once and allowed, and then nothing but -1."""
        rows, columns = found.shape
        real = found >= 0
        assert found.max(initial=-1) < allowed.shape[1]
        assert found.min(initial=-1) >= -1
        owners, _ = np.nonzero(real)
        assert allowed[owners, found[real]].all()
        taken = np.zeros((rows, allowed.shape[1]), dtype=np.int64)
        np.add.at(taken, (owners, found[real]), 1)
        assert taken.max(initial=0) <= 1
        expected = np.minimum(counts, allowed.sum(axis=1))
        np.testing.assert_array_equal(real, np.arange(columns) < expected[:, None])


def random_worlds(rows: int, most_items: int = 60) -> st.SearchStrategy[RandomWorld]:
    """Up to five levels, narrow and wide, with and without bitmaps at the nodes."""
    narrow = st.lists(st.integers(1, 6), min_size=1, max_size=5)
    wide = st.sampled_from([(256, 256, 256, 5), (300, 4, 3), (4, 300), (32, 32, 8), (256, 256, 300, 5)])
    sizes = st.one_of(narrow.filter(lambda one: np.prod(one) >= 2).map(tuple), wide)
    return st.builds(
        RandomWorld,
        sizes,
        st.integers(2, most_items),
        st.just(rows),
        st.sampled_from([0.0, 0.3, 0.9]),
        st.booleans(),
        st.integers(0, 2**20),
    )


def _filter(kind: int, mask: NDArray[np.bool_]) -> ItemFilter | None:
    if kind == 0:
        return None
    if kind == 1:
        return ItemFilter.allowing(np.flatnonzero(mask))
    return ItemFilter.denying(np.flatnonzero(~mask)) if kind == 2 else ItemFilter.of_mask(mask)
