"""What every policy must do, whatever model stands behind the port: one suite, run on each implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asterism.data.sequences import Sequences
from asterism.models.paths import item_log_probs, path_log_probs
from asterism.models.policy import HistoryBatch, Policy, read_histories
from models.small_llm import CODES, FAMILIES, make_llm, make_shape
from models.small_ugt import EVERYTHING, ITEMS, full_sequences, make_features, make_model


class Subject(NamedTuple):
    """A policy over `ITEMS` items in evaluation mode, and the codes (N, levels) of its catalogue."""

    policy: Policy
    codes: Tensor


def ugt(**changes: object) -> Callable[[], Subject]:
    return lambda: Subject(make_model(**changes), make_features().codes)


def llm(family: str) -> Callable[[], Subject]:
    return lambda: Subject(make_llm(make_shape(family=family)), torch.from_numpy(CODES))


#: Each implementation, in the shapes in which it is used.
POLICIES = {
    "ugt": ugt(),
    "ugt with dropout": ugt(dropout=0.5),
    "ugt with pooling": ugt(recency_pooling=True),
    "ugt with everything": ugt(**EVERYTHING),
    **{family: llm(family) for family in FAMILIES},
}
LENGTHS = [3, 0, 9, 1]


@pytest.fixture(params=POLICIES)
def subject(request: pytest.FixtureRequest) -> Subject:
    return POLICIES[request.param]()


def encoded(policy: Policy, histories: Sequences) -> Tensor:
    return policy.encode(read_histories(policy, histories))


def paths_of(subject: Subject, rows: int) -> Tensor:
    """(rows, ITEMS, levels) the paths of all items."""
    return subject.codes.expand(rows, -1, -1)


@torch.no_grad()
def test_shapes(subject: Subject) -> None:
    state = encoded(subject.policy, full_sequences(LENGTHS))
    assert (state.ndim, len(state)) == (2, len(LENGTHS))
    for level, size in enumerate(subject.policy.codebook_sizes):
        prefixes = paths_of(subject, len(LENGTHS))[:, :3, :level]
        assert subject.policy.next_code_log_probs(state, prefixes).shape == (len(LENGTHS), 3, size)
    assert subject.policy.item_scores(state).shape == (len(LENGTHS), ITEMS)
    assert subject.policy.max_events > 0


@torch.no_grad()
def test_log_probs_sum_to_one_also_after_a_prefix_that_no_item_has(subject: Subject) -> None:
    state = encoded(subject.policy, full_sequences(LENGTHS))
    for level in range(len(subject.policy.codebook_sizes)):
        prefixes = torch.cat([paths_of(subject, 4)[:, :, :level], torch.ones(4, 1, level, dtype=torch.long)], dim=1)
        total = subject.policy.next_code_log_probs(state, prefixes).exp().sum(-1)
        torch.testing.assert_close(total, torch.ones_like(total))


@torch.no_grad()
def test_an_items_log_prob_is_the_sum_over_its_levels(subject: Subject) -> None:
    state = encoded(subject.policy, full_sequences(LENGTHS))
    found = item_log_probs(subject.policy, state, paths_of(subject, 4))
    assert path_log_probs(subject.policy, state, paths_of(subject, 4)).shape == (4, *subject.codes.shape)
    for row in range(4):
        for item in range(0, ITEMS, 5):
            total = 0.0
            for level in range(subject.codes.shape[1]):
                one = subject.policy.next_code_log_probs(state[[row]], subject.codes[item, :level].view(1, 1, level))
                total += float(one[0, 0, subject.codes[item, level]])
            assert float(found[row, item]) == pytest.approx(total, abs=1e-4)
    assert bool((found.exp().sum(1) <= 1 + 1e-5).all())


@torch.no_grad()
def test_candidates_score_as_in_the_whole_catalogue(subject: Subject) -> None:
    state = encoded(subject.policy, full_sequences(LENGTHS))
    items = torch.tensor([[3, 0, 3], [1, 2, 4], [11, 0, 5], [7, 7, 7]])
    everything = subject.policy.item_scores(state)
    torch.testing.assert_close(subject.policy.item_scores(state, items), everything.gather(1, items))


@torch.no_grad()
def test_a_batch_is_its_rows_one_by_one(subject: Subject) -> None:
    histories = full_sequences(LENGTHS)
    state = encoded(subject.policy, histories)
    together = item_log_probs(subject.policy, state, paths_of(subject, 4)), subject.policy.item_scores(state)
    for row in range(4):
        alone = encoded(subject.policy, histories.take(np.array([row])))
        found = item_log_probs(subject.policy, alone, paths_of(subject, 1)), subject.policy.item_scores(alone)
        for one, other in zip(found, together, strict=True):
            torch.testing.assert_close(one[0], other[row], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_more_padding_changes_nothing(subject: Subject) -> None:
    short = full_sequences([2, 0])
    alone = read_histories(subject.policy, short)
    items, timestamps, actions = (
        torch.nn.functional.pad(one, (2, 0), value=fill)
        for one, fill in ((alone.items, -1), (alone.timestamps, 0), (alone.actions, 0))
    )
    rest = {name: getattr(alone, name) for name in ("attributes", "asked", "older")}
    wide = {
        name: None if (one := getattr(alone, name)) is None else torch.nn.functional.pad(one, (2, 0))
        for name in ("values", "scenes", "devices")
    }
    padded = HistoryBatch(items, timestamps, actions, **rest, **wide)
    torch.testing.assert_close(subject.policy.encode(padded), subject.policy.encode(alone), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_answers_are_deterministic(subject: Subject) -> None:
    first, second = (encoded(subject.policy, full_sequences(LENGTHS)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(subject.policy.item_scores(first), subject.policy.item_scores(second))


@torch.no_grad()
def test_a_user_without_events_has_an_answer(subject: Subject) -> None:
    state = encoded(subject.policy, full_sequences([0]))
    assert bool(torch.isfinite(item_log_probs(subject.policy, state, paths_of(subject, 1))).all())
    assert bool(torch.isfinite(subject.policy.item_scores(state)).all())


@pytest.mark.parametrize("training", [True, False])
def test_gradients_reach_parameters_through_codes_and_items(subject: Subject, training: bool) -> None:
    policy = subject.policy
    assert isinstance(policy, nn.Module)
    for answer in (
        lambda state: item_log_probs(policy, state, paths_of(subject, 4))[:, 3],
        lambda state: policy.item_scores(state, torch.full((4, 1), 3)),
    ):
        policy.train(training)
        policy.zero_grad()
        answer(encoded(policy, full_sequences(LENGTHS))).sum().backward()
        moved = [one for one in policy.parameters() if one.grad is not None and bool(one.grad.abs().max() > 0)]
        assert len(moved) > 3


def test_a_switch_of_mode_forgets_what_was_kept_for_answering_faster(subject: Subject) -> None:
    policy = subject.policy
    assert isinstance(policy, nn.Module)
    histories = full_sequences(LENGTHS)

    @torch.inference_mode()
    def answers() -> list[Tensor]:
        state = encoded(policy, histories)
        return [item_log_probs(policy, state, paths_of(subject, 4)), policy.item_scores(state)]

    before = answers()
    policy.eval()
    with torch.no_grad():
        for one in policy.parameters():
            one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(1)) * 0.5)
    for old, new in zip(before, answers(), strict=True):
        assert not torch.allclose(old, new)
    found = policy.item_scores(encoded(policy.train(), histories))  # not of a tensor made in inference mode
    found.sum().backward()
