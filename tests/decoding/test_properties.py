"""What holds in some thirty thousand random cases; a case is one row of one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding import Generator, Mode, Recommendations, Trie, recommend_exhaustively
from asterism.decoding.beam import beam_search
from asterism.decoding.diverse import Groups, diverse_beam_search
from asterism.decoding.exhaustive import all_log_probs
from asterism.decoding.sampling import sample_items
from asterism.models.policy import read_histories
from decoding.random_worlds import RandomWorld, random_worlds
from decoding.table_policy import random_histories

ROWS: Final = 48
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
#: Cases that each property is held to at least.
LEGAL_ANSWERS, LEGAL_GROUPS, EXACT, ALIKE, CHANGING = 10_000, 14_000, 2_000, 800, 1_500


def run(check: Callable[[RandomWorld], int], worlds: st.SearchStrategy[RandomWorld], examples: int) -> int:
    """Hold random worlds to a property that tells how many cases it looked at; all cases."""
    cases = 0

    @settings(max_examples=examples)
    @given(world=worlds)
    def held(world: RandomWorld) -> None:
        nonlocal cases
        cases += check(world)

    held()
    return cases


def test_the_properties_are_held_to_many_cases() -> None:
    assert LEGAL_ANSWERS + LEGAL_GROUPS + EXACT + ALIKE + CHANGING >= 28_000


def widths_of(world: RandomWorld) -> NDArray[np.int64]:
    return world.random.integers(1, 30, world.rows)


def states_of(world: RandomWorld) -> Tensor:
    return world.policy.encode(read_histories(world.policy, world.histories))


def test_no_answer_holds_what_is_invalid_repeated_filtered_excluded_or_seen() -> None:
    def check(world: RandomWorld) -> int:
        k = int(world.random.integers(1, 15))
        for mode in MODES:
            kept = int(world.random.integers(0, 20))
            found = world.generator(world.decoding(5, kept)).recommend(
                world.histories,
                k,
                beam=widths_of(world),
                code_log_probs=bool(world.random.integers(2)),
                mode=mode,
                **world.asked(),
            )
            world.check(found.items, k, world.allowed)
            ordered = np.where(found.items >= 0, found.scores, -np.finfo(np.float32).max)
            assert (np.diff(ordered, axis=1) <= 0).all()
            assert (np.isfinite(found.scores) == (found.items >= 0)).all()
        return len(MODES) * world.rows

    assert run(check, random_worlds(ROWS), 80) >= LEGAL_ANSWERS


def test_no_group_holds_what_is_invalid_repeated_filtered_excluded_or_seen() -> None:
    def check(world: RandomWorld) -> int:
        trie, state = Trie.from_table(world.table), states_of(world)
        view, given_out = trie.snapshot(), world.constraints(trie)
        counts, seeds = widths_of(world), world.random.integers(0, 2**40, world.rows)
        exact = all_log_probs(world.policy, state, world.table)

        drawn = sample_items(world.policy, state, view, counts, seeds, temperature=0.8, **given_out)
        world.check(drawn.items.numpy(), counts, world.allowed)
        again = sample_items(world.policy, state, view, counts, seeds, replacement=True, **given_out)
        world.check(again.items[:, :1].numpy(), 1, world.allowed)
        repeats = again.items.numpy()
        owners, columns = np.nonzero(repeats >= 0)
        assert world.allowed[owners, repeats[owners, columns]].all()
        assert (columns < counts[owners]).all()
        groups = Groups(*world.random.integers(1, 5, 3).tolist(), float(world.random.choice([0.0, 0.7, 5.0])))
        diverse = diverse_beam_search(world.policy, state, view, groups, **given_out)
        world.check(diverse.items.numpy(), groups.number * groups.size, world.allowed)
        beam = beam_search(world.policy, state, view, widths_of(world), counts, **given_out)
        world.check(beam.items.numpy(), counts, world.allowed)
        for found in (drawn, again, diverse, beam):
            assert found.code_log_probs is not None
            own = exact.gather(1, found.items.clamp(min=0)).masked_fill(found.items < 0, -torch.inf)
            assert torch.equal(found.code_log_probs, own)
        for one in (drawn, again):
            assert bool((one.sampling_log_probs <= 1e-12).all())
            assert torch.equal(one.sampling_log_probs > -torch.inf, one.items >= 0)
        assert bool((drawn.sampling_log_probs.exp().sum(dim=1) <= 1 + 1e-9).all())
        return 4 * world.rows

    assert run(check, random_worlds(ROWS), 80) >= LEGAL_GROUPS


def assert_same(one: Recommendations, other: Recommendations) -> None:
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert (one.code_log_probs is None) == (other.code_log_probs is None)
    if one.code_log_probs is not None and other.code_log_probs is not None:
        np.testing.assert_array_equal(one.code_log_probs, other.code_log_probs)


def test_a_full_beam_answers_as_scoring_every_item_does() -> None:
    def check(world: RandomWorld) -> int:
        k, mode = int(world.random.integers(1, 20)), MODES[int(world.random.integers(3))]
        config = world.decoding(world.items, int(world.random.integers(0, 25)))
        found = world.generator(config).recommend(world.histories, k, mode=mode, **world.asked())
        gone = [set(np.flatnonzero(~one).tolist()) for one in world.allowed]
        slow = recommend_exhaustively(
            world.policy,
            world.table,
            world.histories,
            k,
            config,
            excluded=gone,
            mode=mode,
            heads=world.heads,
        )
        assert_same(found, slow)
        return world.rows

    assert run(check, random_worlds(16, 40), 150) >= EXACT


def test_a_batch_is_answered_as_its_rows_one_by_one() -> None:
    def check(world: RandomWorld) -> int:
        trie, state = Trie.from_table(world.table), states_of(world)
        view, widths, seeds = trie.snapshot(), widths_of(world), world.random.integers(0, 2**40, world.rows)
        generator, mode = world.generator(world.decoding(7, 4)), MODES[int(world.random.integers(3))]
        groups = Groups(3, 2, 4, 1.0)
        whole = generator.recommend(world.histories, 5, beam=widths, mode=mode, **world.asked())
        given_out = world.constraints(trie)
        drawn = sample_items(world.policy, state, view, widths, seeds, **given_out)
        diverse = diverse_beam_search(world.policy, state, view, groups, **given_out)
        for row in range(world.rows):
            own = slice(row, row + 1)
            alone = generator.recommend(
                world.histories_of(own),
                5,
                beam=int(widths[row]),
                mode=mode,
                **world.asked(own),
            )
            np.testing.assert_array_equal(alone.items[0], whole.items[row])
            np.testing.assert_array_equal(alone.scores[0], whole.scores[row])
            given_out = world.constraints(trie, own)
            one = sample_items(world.policy, state[own], view, widths[own], seeds[own], **given_out)
            for part, of_batch in zip(one, drawn, strict=True):
                assert torch.equal(part[0], of_batch[row, : widths[row]])
            apart = diverse_beam_search(world.policy, state[own], view, groups, **given_out)
            assert torch.equal(apart.items[0], diverse.items[row])
        return 3 * world.rows

    assert run(check, random_worlds(8, 40), 40) >= ALIKE


def test_items_come_and_go_between_calls() -> None:
    def check(world: RandomWorld) -> int:
        generator, trie = world.generator(world.decoding(6, 4)), Trie.from_table(world.table)
        present = np.ones(world.items, dtype=np.bool_)
        cases = 0
        for _ in range(5):
            for item in world.random.integers(0, world.items, world.items // 2).tolist():
                present[item] = not present[item]
                for one in (generator.set_available, trie.set_present):
                    one(item, bool(present[item]))
            mode = MODES[int(world.random.integers(3))]
            allowed = world.allowed & present
            if not present[np.setdiff1d(np.arange(world.items), world.unavailable)].any():
                with pytest.raises(ModelError, match="the trie holds no item"):
                    generator.recommend(world.histories, 6, mode=mode, **world.asked())
                continue
            found = generator.recommend(
                world.histories,
                6,
                beam=widths_of(world),
                mode=mode,
                **world.asked(),
            )
            world.check(found.items, 6, allowed)
            drawn = sample_items(
                world.policy,
                states_of(world),
                trie.snapshot(),
                4,
                np.arange(world.rows),
                **world.constraints(trie),
            )
            world.check(drawn.items.numpy(), 4, allowed)
            cases += 2 * world.rows
        return cases

    assert run(check, random_worlds(12), 30) >= CHANGING


def test_inserted_items_are_answered_as_if_they_had_always_been_there() -> None:
    sizes = (6, 6, 6)
    world = RandomWorld(sizes, 60, 12, 0.3, False, 1)
    config = world.decoding(60, 9)
    grown = Generator(world.policy, SemanticIdTable(world.table.codes[:30], sizes), config, heads=world.heads)
    for item in range(30, 60):
        grown.recommend(random_histories(2, 30), 3)
        grown.insert(item, tuple(world.table.codes[item].tolist()))
    for mode in MODES:
        assert_same(
            grown.recommend(world.histories, 10, mode=mode, **world.asked()),
            world.generator(config).recommend(world.histories, 10, mode=mode, **world.asked()),
        )
