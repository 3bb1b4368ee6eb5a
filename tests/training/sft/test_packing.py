"""Packed rows give the loss and the gradients of examples taken one by one, and only answers count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from asterism.models.llm import LLM
from asterism.training.sft.example import GIVEN, TEXT, Example
from asterism.training.sft.objective import SupervisedObjective
from asterism.training.sft.packing import first_fit, pack
from models.small_llm import FAMILIES, make_llm, make_shape
from training.sft.test_tasks import examples

EVERYTHING = {"next_item": 1.0, "title_to_item": 0.5, "item_to_title": 0.25, "description_to_item": 0.5}


def slow_loss(model: LLM, chosen: list[Example]) -> torch.Tensor:
    """Example by example, token by token, over the vocabulary's logits."""
    losses, weights = [], []
    for one in chosen:
        logits = model.language(input_ids=torch.from_numpy(one.tokens).long()[None]).logits[0]
        for place in np.flatnonzero(one.asked != GIVEN):
            level = int(one.asked[place])
            among = logits[place - 1] if level == TEXT else logits[place - 1, model.level_ids(level)]
            losses.append(-functional.log_softmax(among, dim=0)[int(one.targets[place])])
            weights.append(one.weight)
    return (torch.stack(losses) * torch.tensor(weights)).sum() / sum(weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_unpacked(family: str) -> None:
    model = make_llm(make_shape(family=family))
    chosen = examples(model, **EVERYTHING)
    batch = pack(chosen, row_tokens=50)
    assert len(batch.tokens) < len(chosen), "several examples share a row"
    packed = SupervisedObjective(model)(batch).total
    packed.backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    slow = slow_loss(model, chosen)
    slow.backward()
    torch.testing.assert_close(packed, slow, rtol=1e-5, atol=1e-5)
    for name, one in model.named_parameters():
        torch.testing.assert_close(gradients[name], one.grad, rtol=1e-3, atol=1e-5)


def test_the_terms_are_means_over_their_tokens() -> None:
    model = make_llm()
    objective = SupervisedObjective(model)
    codes, titles = examples(model, next_item=3.0), examples(model, item_to_title=0.5)
    terms = objective(pack(codes + titles, 64))
    torch.testing.assert_close(terms.codes, slow_loss(model, codes).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms.text, slow_loss(model, titles).detach(), rtol=1e-4, atol=1e-5)
    only = objective(pack(codes, 64))
    assert (only.text.item(), only.total.item()) == (0.0, pytest.approx(only.codes.item(), rel=1e-5))


def test_what_is_given_is_not_learned() -> None:
    model = make_llm()
    (one, *_) = examples(model, title_to_item=1.0)
    other = Example(one.tokens.copy(), one.asked, one.targets.copy(), one.weight)
    other.targets[one.asked == GIVEN] = 7  # whatever stands there
    objective = SupervisedObjective(model)
    assert objective(pack([one], 64)).total.item() == objective(pack([other], 64)).total.item()


def test_rows_hold_each_example_once_and_no_more_than_fits() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 200)
    rows = first_fit(lengths, 64)
    assert sorted(place for row in rows for place in row) == list(range(200))
    assert all(lengths[row].sum() <= 64 or len(row) == 1 for row in rows)
    assert len(rows) <= 1.25 * np.maximum(lengths, 1).clip(max=64).sum() / 64 + (lengths > 64).sum()
    assert first_fit(np.array([3, 5, 2, 4]), 7) == [[1, 2], [3, 0]]
