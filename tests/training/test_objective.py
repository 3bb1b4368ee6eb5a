"""The terms of the loss on one model: each is what its formula says, and absent ones change nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from asterism.config import ModelConfig, TrainingConfig
from asterism.data.preferences import PreferencePairs
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.training.batches import TrainingBatch, make_batch, target_counts
from asterism.training.objective import NextItemObjective
from worlds import sequences_of

ITEMS = 12
ROWS = sequences_of([[0, 1, 2, 3], [4, 5], [6, 7, 8, 9, 10]])
BATCH = make_batch(ROWS, np.arange(3), 8)


def make_model() -> UGT:
    torch.manual_seed(0)
    codes = torch.tensor([[item // 4, item % 4, 0] for item in range(ITEMS)])
    features = ItemFeatures(codes, (3, 4, 2), torch.randn(ITEMS, 6))
    return UGT(features, UGTShape(ModelConfig(width=8, blocks=1, heads=2, max_events=8, dropout=0.0), 0.2)).eval()


def make(model: UGT, **settings: object) -> NextItemObjective:
    config = TrainingConfig.model_validate({"negatives": 5} | settings)
    return NextItemObjective(model, config, target_counts(ROWS, 8, ITEMS))


def questions(model: UGT) -> tuple[Tensor, Tensor]:
    asked = BATCH.targets >= 0
    starts = model.start_states(BATCH.histories)
    return torch.cat([model(BATCH.histories), starts]), torch.cat([BATCH.targets[asked], torch.tensor([0, 4, 6])])


def test_the_default_is_uniform_draws_and_two_terms() -> None:
    model = make_model()
    states, targets = questions(model)
    torch.manual_seed(5)
    terms = make(model)(BATCH)
    torch.manual_seed(5)
    negatives = torch.randint(ITEMS, (5,))
    vectors = functional.normalize(model.items(torch.cat([targets, negatives])), dim=-1)
    logits = model.item_queries(states) @ vectors.T / 0.2
    own = logits[:, : len(targets)].diagonal()[:, None]
    others = logits[:, len(targets) :].masked_fill(targets[:, None] == negatives, -torch.inf)
    items = functional.cross_entropy(torch.cat([own, others], 1), torch.zeros(len(targets), dtype=torch.long))
    torch.testing.assert_close(terms.items, items)
    assert terms.total.item() == (terms.codes + terms.items).item()
    assert (terms.alignment.item(), terms.preference.item()) == (0.0, 0.0)
    assert [name for name, _ in make(model).named_parameters() if not name.startswith("model.")] == []


@pytest.mark.parametrize("method", ["popularity", "in_batch", "mixed"])
def test_every_way_of_sampling_trains(method: str) -> None:
    model = make_model()
    terms = make(model, negative_sampling=method)(BATCH)
    terms.total.backward()
    assert torch.isfinite(terms.total)
    assert all(torch.isfinite(one.grad).all() for one in model.parameters() if one.grad is not None)


def test_in_batch_negatives_are_the_other_questions_targets() -> None:
    model = make_model()
    terms = make(model, negatives=11, negative_sampling="in_batch")(BATCH)
    states, targets = questions(model)
    assert len(targets) == 11, "all are taken"
    vectors = functional.normalize(model.items(targets), dim=-1)
    logits = model.item_queries(states) @ vectors.T / 0.2
    # Each of the 11 items is asked for once in an epoch: 10 others, each expected 10/11 times.
    off = logits - torch.log(torch.tensor(10 / 11))
    corrected = torch.where(torch.eye(11, dtype=torch.bool), logits, off)
    torch.testing.assert_close(terms.items, functional.cross_entropy(corrected, torch.arange(11)))


def test_mixed_negatives_are_other_targets_and_items_drawn_from_the_catalogue() -> None:
    model = make_model()
    one = make(model, negatives=6, negative_sampling="mixed")
    states, targets = questions(model)
    torch.manual_seed(2)
    draw = one.sampler(targets)
    torch.manual_seed(2)
    terms = one(BATCH)
    items = [*targets[draw.own].tolist(), *draw.drawn.tolist()]
    assert (len(draw.own), len(items)) == (3, 6)
    scores = model.item_queries(states) @ model.item_directions().T / 0.2
    assert draw.log_expected is not None
    losses = []
    for row, target in enumerate(targets.tolist()):
        others = [scores[row, item] - log for item, log in zip(items, draw.log_expected, strict=True) if item != target]
        losses.append(torch.stack([scores[row, target], *others]).logsumexp(0) - scores[row, target])
    torch.testing.assert_close(terms.items, torch.stack(losses).mean())


def test_alignment_reads_the_content_of_what_the_item_loss_used() -> None:
    model = make_model()
    one = make(model, negatives=0, alignment_weight=0.5)
    terms = one(BATCH)
    assert one.to_content is not None
    said = one.to_content(model.item_directions())
    expected = 1 - functional.cosine_similarity(said, model.items.content, dim=-1).mean()
    torch.testing.assert_close(terms.alignment, expected)
    torch.testing.assert_close(terms.total, terms.codes + terms.items + 0.5 * terms.alignment)


def test_preference_compares_scores_from_the_state_before_the_choice() -> None:
    model = make_model()
    batch = paired_batch()
    terms = make(model, negatives=0, preference_weight=2.0)(batch)
    states = model(batch.histories)
    assert len(states) == 3 + 1 + 4
    scores = model.item_scores(torch.stack([states[2], states[3 + 1 + 1]]))  # before item 3, before item 8
    first = -functional.logsigmoid(scores[0, 3] - scores[0, [11, 5]]).mean()
    second = -functional.logsigmoid(scores[1, 8] - scores[1, 4])
    torch.testing.assert_close(terms.preference, (3 * first + 1 * second) / 4, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(terms.total, terms.codes + terms.items + 2.0 * terms.preference)


def paired_batch() -> TrainingBatch:
    """Event 3 (item 3) beats items 11 and 5 with weight 3; event 8 (item 8) beats item 4 with weight 1."""
    rejected = np.full((ROWS.events, 2), -1, dtype=np.int32)
    rejected[3], rejected[8, 0] = [11, 5], 4
    weights = np.zeros(ROWS.events, dtype=np.float32)
    weights[[3, 8]] = [3.0, 1.0]
    # Short rows stand in padding whose columns would be other rows' events.
    return make_batch(ROWS, np.array([0, 1, 2]), 8, PreferencePairs(rejected, weights))


def test_the_load_of_experts_counts_by_its_weight() -> None:
    torch.manual_seed(0)
    codes = torch.tensor([[item // 4, item % 4, 0] for item in range(ITEMS)])
    config = ModelConfig(width=8, blocks=1, heads=2, max_events=8, dropout=0.0, experts=4, expert_top_k=1)
    model = UGT(ItemFeatures(codes, (3, 4, 2), torch.randn(ITEMS, 6)), UGTShape(config, 0.2)).train()
    totals = []
    for weight in (0.0, 0.5):
        torch.manual_seed(5)
        terms = make(model, load_balance_weight=weight)(BATCH)
        totals.append(terms.total.item())
    assert 1.0 < terms.imbalance.item() < 4.0
    assert totals[1] - totals[0] == pytest.approx(0.5 * terms.imbalance.item(), rel=1e-4)
    terms.total.backward()
    assert model.feed_forwards[0].mixture.router.weight.grad.abs().sum() > 0
