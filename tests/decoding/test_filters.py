"""Filters of all kinds: a search with them gives what a search among the allowed items would."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asterism.core.errors import RequestError
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding import sieve
from asterism.decoding.admission import Admission
from asterism.decoding.beam import beam_search
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.exhaustive import all_log_probs
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.sieve import sieve_of
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie import Trie
from decoding.slow_trie import SIZES
from decoding.table_policy import TASTES, TablePolicy, random_table

KINDS = ["none", "allow-list", "deny-list", "mask", "mask and beyond", "all but one", "one", "nothing"]


def filter_of_kind(kind: str, items: int, random: np.random.Generator) -> tuple[ItemFilter | None, set[int]]:
    """A filter, and the items that it allows."""
    mask = random.random(items) < random.choice([0.02, 0.3, 0.5, 0.9])
    if kind == "all but one":
        mask = np.arange(items) != random.integers(items)
    if kind == "one":
        mask = np.arange(items) == random.integers(items)
    if kind == "nothing":
        mask[:] = False
    allowed = set(np.flatnonzero(mask).tolist())
    if kind == "none":
        return None, set(range(items))
    if kind in {"allow-list", "one"}:
        return ItemFilter.allowing([*allowed, *allowed, items + 70]), allowed
    if kind in {"deny-list", "all but one"}:
        return ItemFilter.denying(np.flatnonzero(~mask)), allowed
    if kind == "mask and beyond":
        short = items // 2
        return ItemFilter.of_mask(mask[:short], beyond=True), {one for one in allowed if one < short} | set(
            range(short, items)
        )
    return ItemFilter.of_mask(mask), allowed


def excluded_pairs(view: TrieSnapshot, rows: int, share: float, random: np.random.Generator) -> Exclusions:
    return Exclusions.of_pairs(view, *np.nonzero(random.random((rows, view.known_items)) < share))


def changed_trie(table: SemanticIdTable, gone: NDArray[np.int64]) -> Trie:
    trie = Trie.from_table(table)
    for item in gone.tolist():
        trie.remove(item)
    return trie


@settings(max_examples=150)
@given(
    sizes=st.sampled_from(SIZES),
    items=st.integers(2, 80),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    pair=st.sampled_from(KINDS),
    share=st.sampled_from([0.0, 0.3, 0.95]),
    count=st.integers(1, 90),
    width=st.integers(1, 4),
    coarse=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_the_twin_agrees(
    sizes: tuple[int, ...],
    items: int,
    kinds: list[str],
    pair: str,
    share: float,
    count: int,
    width: int,
    coarse: bool,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    table = random_table(sizes, items, seed)
    items, rows = len(table), len(kinds)
    policy = TablePolicy(sizes, items, seed, coarse=coarse)
    gone = np.flatnonzero(random.random(items - 1) < 0.2)
    view = changed_trie(table, gone).snapshot()
    shared, of_shared = filter_of_kind(pair, items, random)
    filters, allowed = [], []
    for kind in kinds:
        one, of_one = filter_of_kind(kind, items, random)
        filters.append(one & shared if one is not None and shared is not None else one or shared)
        allowed.append((of_one & of_shared) - set(gone.tolist()))
    exclusions = excluded_pairs(view, rows, share, random)
    for row, item in zip(exclusions.rows.tolist(), exclusions.items.tolist(), strict=True):
        allowed[row].discard(item)
    state = torch.from_numpy(random.integers(0, TASTES, (rows, 1))).float()
    exact = all_log_probs(policy, state, table)
    found = beam_search(policy, state, view, items, count, exclusions, filters)
    narrow = beam_search(policy, state, view, width, min(count, 5), exclusions, filters)
    some = beam_search(policy, state, view, items, count, exclusions, filters, scored=False)
    assert found.code_log_probs is not None
    assert some.code_log_probs is None
    for row in range(rows):
        best = sorted(allowed[row], key=lambda item: (-exact[row, item], item))[:count]
        assert found.items[row].tolist() == best + [-1] * (count - len(best))
        assert torch.equal(found.code_log_probs[row, : len(best)], exact[row, best])
        assert sorted(some.items[row].tolist()) == sorted(best + [-1] * (count - len(best)))
        given_items = [item for item in narrow.items[row].tolist() if item >= 0]
        assert len(set(given_items)) == len(given_items) == min(count, 5, len(allowed[row]))
        assert set(given_items) <= allowed[row]


@settings(max_examples=60)
@given(
    sizes=st.sampled_from([one for one in SIZES if len(one) < 9]),
    share=st.sampled_from([0.1, 0.6, 1.0]),
    seed=st.integers(0, 9999),
)
def test_no_open_prefix_leads_nowhere_and_no_closed_one_somewhere(
    sizes: tuple[int, ...], share: float, seed: int
) -> None:
    """The prefixes that an admission leaves open, walked as a beam walks them, are those of the items left."""
    random = np.random.default_rng(seed)
    table = random_table(sizes, 60, seed)
    view = Trie.from_table(table).snapshot()
    one, allowed = filter_of_kind(str(random.choice(KINDS)), len(table), random)
    exclusions = excluded_pairs(view, 2, share * random.random(), random)
    admission = Admission(view, 2, exclusions, [one, None])
    for row, of_filter in enumerate([allowed, set(range(len(table)))]):
        left = of_filter - set(exclusions.items[exclusions.rows == row].tolist())
        paths = {table.path_of(item) for item in left}
        assert bool(admission.rows_left[row]) == bool(left)
        prefixes = {()} if left else set()
        addresses = np.zeros(len(prefixes), dtype=np.int64)
        for level in range(view.layout.head + view.layout.node_bitmaps):
            owners = np.full(len(addresses), row)
            bits = admission.narrow(level, owners, addresses, view.child_bits(level, addresses))
            codes = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
            at, follow = np.nonzero(codes)
            addresses = addresses[at] * sizes[level] + follow
            expected = sorted({path[: level + 1] for path in paths})
            assert len(addresses) == len(expected)
            assert addresses.tolist() == [int(np.ravel_multi_index(prefix, sizes[: level + 1])) for prefix in expected]


def test_a_kept_sieve_follows_the_trie() -> None:
    random = np.random.default_rng(0)
    for sizes, kind in product(
        [(256, 256, 256, 19), (8,) * 6, (70_000, 3), (4, 1000, 3)], ["mask", "deny-list", "one"]
    ):
        table = random_table(sizes, 300)
        trie = Trie.from_table(table)
        kept, _ = filter_of_kind(kind, 300, random)
        assert kept is not None
        views = []
        for number in range(40):
            for item in random.integers(0, 300, 5).tolist():
                trie.set_present(item, not trie.snapshot().present[item])
            view = trie.snapshot()
            views.append(view)
            for asked in (view, views[number // 2]):
                found = sieve_of(kept, asked)
                kept_before, kept.sieve = kept.sieve, None
                fresh = sieve_of(kept, asked)
                kept.sieve = kept_before
                np.testing.assert_array_equal(found.nodes, fresh.nodes)
                assert all(np.array_equal(one, other) for one, other in zip(found.bits, fresh.bits, strict=True))
                assert found.version == asked.version
            assert kept.sieve is not None
            assert kept.sieve.version == view.version


def test_a_sieve_of_another_trie_is_not_taken() -> None:
    table = random_table((4, 4, 4), 30)
    one = ItemFilter.allowing([0])
    sieve_of(one, Trie.from_table(table).snapshot())
    other = Trie.from_table(SemanticIdTable(table.codes[::-1], (4, 4, 4))).snapshot()
    assert int(sieve_of(one, other).nodes.argmax()) == int(other.layout.addresses(table.codes[-1:])[0])


def test_a_sieve_is_kept_and_only_changed_nodes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table((16, 16, 16), 500)
    trie = Trie.from_table(table)
    one = ItemFilter.of_mask(np.ones(500, dtype=np.bool_))
    sieve_of(one, trie.snapshot())
    looked: list[int] = []
    plain = sieve.alive_nodes
    monkeypatch.setattr(
        sieve, "alive_nodes", lambda view, nodes, admits: looked.append(len(nodes)) or plain(view, nodes, admits)
    )
    sieve_of(one, trie.snapshot())
    trie.remove(3)
    trie.remove(4)
    sieve_of(one, trie.snapshot())
    assert looked == [len({table.path_of(item)[:2] for item in (3, 4)})]


def test_filters_by_hand() -> None:
    asked = np.arange(6)
    assert ItemFilter.allowing([4, 1, 4]).allows(asked).tolist() == [False, True, False, False, True, False]
    assert ItemFilter.denying([4, 1]).allows(asked).tolist() == [True, False, True, True, False, True]
    assert ItemFilter.denying([]).allows(asked).all()
    both = ItemFilter.denying([4]) & ItemFilter.of_mask(np.array([True, False, True]), beyond=True)
    assert both.allows(asked).tolist() == [True, False, True, True, False, True]
    narrow = both & ItemFilter.allowing([1, 2, 5])
    assert narrow.listed().tolist() == [2, 5]
    assert (narrow.count, both.count) == (2, None)
    assert ItemFilter.of_mask(np.array([True, False, True])).allows(asked).tolist() == [True, False, True] + [False] * 3


def test_a_mask_is_copied_and_a_senseless_one_refused() -> None:
    mask = np.ones(3, dtype=np.bool_)
    one = ItemFilter.of_mask(mask)
    mask[:] = False
    assert one.allows(np.arange(3)).all()
    with pytest.raises(RequestError, match=r"is \(items,\) of booleans, not \(3,\) of int64"):
        ItemFilter.of_mask(np.ones(3, dtype=np.int64))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="item index -1 of a filter is negative"):
        ItemFilter.denying([3, -1])


def test_the_policy_is_not_asked_where_nothing_is_to_be_decided() -> None:
    table = random_table((16, 16, 16, 1), 400)
    view = Trie.from_table(table).snapshot()
    policy = TablePolicy((16, 16, 16, 1), 400)
    state = torch.zeros((2, 1))
    few = ItemFilter.allowing(range(30))
    found = beam_search(policy, state, view, 50, 50, None, [few, few], scored=False)
    assert policy.calls == []
    assert found.items[:, :31].tolist() == [[*range(30), -1]] * 2
    beam_search(policy, state, view, 50, 50, None, [few, None], scored=False)
    assert [len(shape) and shape[2] for shape in policy.calls] == [0, 1, 2]
    policy.calls.clear()
    beam_search(policy, state, view, 50, 50, None, [few, few])
    assert [shape[2] for shape in policy.calls] == [
        0,
        1,
        2,
    ]  # one code only on the last level: its log-probability is 0
