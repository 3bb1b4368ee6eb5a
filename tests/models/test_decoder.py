"""The softmax over siblings: sums, numbers by hand, its training path beside its decoding path, and what learns."""

from __future__ import annotations

import itertools
from math import exp, log, log1p

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.config import DecodingConfig, ModelConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding import Generator, recommend_exhaustively
from asterism.models.ugt import UGT, ItemFeatures, UGTShape, decoder
from asterism.models.ugt.decoder import UNSEEN_SHARE, CodeDecoder, log_sum_exp
from asterism.training.losses import code_loss
from decoding.table_policy import random_histories, random_table

WIDTH = 8
SIZES = (4, 5, 3)


def make_decoder(
    codes: Tensor, sizes: tuple[int, ...] = SIZES, content: Tensor | None = None, temperature: float = 0.1
) -> CodeDecoder:
    """With parameters that all differ from what they start as."""
    torch.manual_seed(0)
    made = CodeDecoder(WIDTH, codes, sizes, content, temperature)
    with torch.no_grad():
        for one in made.parameters():
            one.add_(torch.randn_like(one) * 0.5)
    return made.eval()


def random_codes(items: int, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Tensor:
    return torch.from_numpy(random_table(sizes, items, seed).codes).long()


def loss_of(scores: list[decoder.SiblingScores]) -> Tensor:
    return code_loss([(own, log_sum) for own, log_sum in scores])


def test_three_siblings_by_hand() -> None:
    made = make_decoder(torch.tensor([[0], [1], [3]]), (5,), temperature=0.5)
    with torch.no_grad():
        made.vectors["0"].own.weight.copy_(torch.eye(WIDTH)[:3] * torch.tensor([[2.0], [5.0], [0.1]]))  # type: ignore[union-attr,operator]
        made.turns["0"].weight.zero_()  # type: ignore[operator]
        made.turns["0"].bias.zero_()  # type: ignore[operator]
        state = torch.zeros(1, WIDTH)
        state[0, :2] = torch.tensor([3.0, 4.0])  # cosines .6, .8, 0
        found = made.log_probs(state, torch.zeros(1, 1, 0, dtype=torch.long))[0, 0]
    total = exp(1.2) + exp(1.6) + 1
    seen = [log(exp(1.2) / total), log(exp(1.6) / total), log(1 / total)]
    unseen = log(UNSEEN_SHARE / 2)
    left = log1p(-UNSEEN_SHARE)
    expected = [seen[0] + left, seen[1] + left, unseen, seen[2] + left, unseen]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    (level,) = made(state, torch.tensor([1]))
    np.testing.assert_allclose((level.own - level.log_sum).detach().numpy(), [seen[1]], rtol=1e-5)


@settings(max_examples=25)
@given(items=st.integers(1, 30), seed=st.integers(0, 1000))
def test_probabilities_sum_to_one_after_every_prefix(items: int, seed: int) -> None:
    codes = random_codes(items, seed=seed)
    made = make_decoder(codes, content=torch.randn(len(codes), 6))
    states = torch.randn(2, WIDTH)
    for number, size in enumerate(SIZES):
        every = list(itertools.product(*map(range, SIZES[:number])))
        everything = torch.tensor(every, dtype=torch.long).view(len(every), number)
        with torch.inference_mode():
            found = made.log_probs(states, everything.expand(2, -1, -1))
        assert found.shape == (2, len(everything), size)
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, len(everything)))
        assert torch.isfinite(found).all(), "every code can be reached"
        unknown = made.tree.find(everything) < 0
        torch.testing.assert_close(found[:, unknown], torch.full_like(found[:, unknown], -log(size)))


def test_what_was_never_seen_together_shares_little() -> None:
    made = make_decoder(torch.tensor([[0, 0], [0, 2], [1, 0], [1, 1], [1, 2]]), (2, 3))
    with torch.inference_mode():
        found = made.log_probs(torch.randn(1, WIDTH), torch.tensor([[[0], [1]]]))[0].exp()
    assert found[0, 1].item() == pytest.approx(UNSEEN_SHARE)
    assert found[0, [0, 2]].sum().item() == pytest.approx(1 - UNSEEN_SHARE)
    assert found[1].sum().item() == pytest.approx(1.0), "where all codes are seen nothing is set aside"
    assert found[1].min().item() > 5 * UNSEEN_SHARE or found[1].max().item() > 0.9


def path_log_probs(made: CodeDecoder, states: Tensor, codes: Tensor) -> Tensor:
    """(P,) sums over levels of the log-probability of each right code, without what is set aside for unseen ones."""
    total = torch.zeros(len(states))
    for number in range(codes.shape[1]):
        found = made.log_probs(states, codes[:, None, :number])[:, 0]
        level = made.tree.level(number)
        full = level.counts[made.tree.find(codes[:, :number])] == level.size
        total = total + found.gather(1, codes[:, [number]])[:, 0] - torch.where(full, 0.0, log1p(-UNSEEN_SHARE))
    return total


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("small", [0, 1 << 20], ids=["pair by pair", "one product"])
def test_training_and_decoding_say_the_same(described: bool, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way scores are computed: by one product, or pair by pair."""
    codes = random_codes(40)
    made = make_decoder(codes, content=torch.randn(40, 6) if described else None)
    items, states = torch.arange(40).repeat(3), torch.randn(120, WIDTH)
    with torch.inference_mode():
        expected = path_log_probs(made, states, codes[items])
        monkeypatch.setattr(decoder, "_SMALL_PRODUCT", small)
        levels = made(states, items)
        assert len(levels) == 3
        trained = torch.stack([level.own - level.log_sum for level in levels]).sum(0)
        made.train().eval()
        decoded = path_log_probs(made, states, codes[items])
    torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoded, expected, rtol=1e-4, atol=1e-4)


def test_both_ways_of_scoring_pairs_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = random_codes(40)
    made = make_decoder(codes, content=torch.randn(40, 6)).train()
    items, states = torch.arange(40), torch.randn(40, WIDTH, requires_grad=True)
    gradients = []
    for small in (1 << 20, 0):
        monkeypatch.setattr(decoder, "_SMALL_PRODUCT", small)
        loss = loss_of(made(states, items))
        gradients.append(torch.autograd.grad(loss, [states, *made.parameters()]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_siblings_on_the_path_alone() -> None:
    codes = torch.tensor([[0, 0, 0], [0, 2, 0], [1, 0, 0], [1, 1, 0], [1, 3, 0], [2, 4, 2]])
    made = make_decoder(codes).train()
    assert made.branching == [0, 1], "no prefix of two codes has two children"
    loss_of(made(torch.randn(2, WIDTH), torch.tensor([3, 3]))).backward()
    moved = made.vectors["1"].own.weight.grad.abs().sum(1) > 0  # type: ignore[union-attr,operator]
    assert made.tree.level(1).paths[moved].tolist() == [[1, 0], [1, 1], [1, 3]]
    assert (made.vectors["0"].own.weight.grad.abs().sum(1) > 0).all()  # type: ignore[union-attr,operator]


def test_a_level_of_too_many_nodes_is_told_apart_by_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MAX_FREE_NODES", 6)
    codes, content = random_codes(30), torch.randn(30, 6)
    made = make_decoder(codes, content=content)
    names = {name.split(".weight")[0] for name in made.vectors.state_dict() if name.endswith("weight")}
    assert names == {"0.own", "0.project", "1.code_vectors.0", "1.code_vectors.1", "1.project"} | {
        f"2.code_vectors.{place}" for place in range(3)
    }
    one = made.vectors["1"]
    level = made.tree.level(1)
    node = 4
    path = level.paths[node]
    with torch.inference_mode():
        by_hand = one.code_vectors[0].weight[path[0]] + one.code_vectors[1].weight[path[1]]  # type: ignore[union-attr,index]
        by_hand = by_hand + one.project(content[level.of_item == node].mean(dim=0))  # type: ignore[operator]
        torch.testing.assert_close(one(level, torch.tensor([node]))[0], by_hand)
        states, items = torch.randn(30, WIDTH), torch.arange(30)
        trained = torch.stack([level.own - level.log_sum for level in made(states, items)]).sum(0)
        torch.testing.assert_close(trained, path_log_probs(made, states, codes), rtol=1e-4, atol=1e-4)


def test_kept_node_vectors_follow_the_weights() -> None:
    made = make_decoder(random_codes(20))
    states, nothing = torch.randn(1, WIDTH), torch.zeros(1, 1, 0, dtype=torch.long)
    with torch.inference_mode():
        before = made.log_probs(states, nothing)
    made.train()
    with torch.no_grad():
        made.vectors["0"].own.weight.add_(torch.randn(4, WIDTH))  # type: ignore[union-attr,operator]
    made.eval()
    with torch.inference_mode():
        assert not torch.allclose(before, made.log_probs(states, nothing))


@pytest.mark.parametrize("temperature", [0.05, 0.01, 0.002])
def test_low_temperatures_neither_overflow_nor_vanish(temperature: float) -> None:
    codes = random_codes(40)
    made = make_decoder(codes, temperature=temperature).train()
    states = torch.randn(40, WIDTH)
    levels = made(states, torch.arange(40))
    assert torch.isfinite(loss_of(levels))
    loss_of(levels).backward()
    assert all(one.grad is None or torch.isfinite(one.grad).all() for one in made.parameters())
    with torch.inference_mode():
        found = path_log_probs(made.eval(), states, codes)
    trained = torch.stack([level.own - level.log_sum for level in levels]).sum(0)
    torch.testing.assert_close(trained, found, rtol=1e-4, atol=1e-3)


def test_log_sums_by_hand() -> None:
    scores, rows = torch.tensor([log(2.0), log(3.0), 1.0]), torch.tensor([2, 2, 0])
    for ceiling in (2.0, 100.0):
        found = log_sum_exp(scores, rows, 3, ceiling)
        np.testing.assert_allclose(found[[0, 2]].numpy(), [1.0, log(5.0)], rtol=1e-5)
    assert log_sum_exp(scores, rows, 3, 2.0)[1] == -torch.inf


@pytest.mark.parametrize(("parents", "children"), [(1, 1000), (2, 500), (20, 50)])
def test_bf16_sums_many_siblings_without_losing_them(
    parents: int, children: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Summed in bf16, all but the first few hundred of a thousand siblings would vanish."""
    items = torch.arange(parents * children)
    made = make_decoder(torch.stack([items % parents, items // parents], dim=1), (parents, children), temperature=0.5)
    states, asked = torch.randn(64, WIDTH), torch.arange(64)
    exact = loss_of(made.train()(states, asked))
    for small in (1 << 20, 0):
        monkeypatch.setattr(decoder, "_SMALL_PRODUCT", small)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            levels = made(states, asked)
        assert {one.dtype for level in levels for one in level} == {torch.float32}
        assert loss_of(levels).item() == pytest.approx(exact.item(), abs=0.02)


def make_policy(table: SemanticIdTable, items: int, **changes: object) -> UGT:
    """A UGT over the table's codes, a few random items beyond them left out."""
    torch.manual_seed(0)
    features = ItemFeatures(torch.from_numpy(table.codes[:items]).long(), table.codebook_sizes, torch.randn(items, 5))
    config = ModelConfig(width=WIDTH, blocks=1, heads=2, max_events=5, dropout=0.0).model_copy(update=changes)
    model = UGT(features, UGTShape(config, temperature=0.1)).eval()
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one) * 0.3)
    return model


@pytest.mark.parametrize("changes", [{}, {"content": False}], ids=["content", "no content"])
@pytest.mark.parametrize("mode", ["generate", "rescored"])
def test_a_beam_as_wide_as_the_catalogue_finds_what_scoring_every_item_finds(
    changes: dict[str, object], mode: str
) -> None:
    table = random_table((8, 8, 4), 60, seed=2)
    policy = make_policy(table, 60, **changes)
    histories = random_histories(9, 60, seed=1)
    config = DecodingConfig(beam=60, item_weight=1.0, code_weight=0.5)
    found = Generator(policy, table, config).recommend(histories, 20, mode=mode)  # type: ignore[arg-type]
    slow = recommend_exhaustively(policy, table, histories, 20, config, excluded=[()] * 9, mode=mode)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.scores, slow.scores, rtol=1e-4, atol=1e-4)
    steps = np.abs(np.diff(slow.scores, axis=1))
    alone = np.pad(steps > 1e-5, ((0, 0), (1, 1)), constant_values=True)  # scores that rounding cannot exchange
    certain = alone[:, :-1] & alone[:, 1:]
    assert certain.mean() > 0.9
    np.testing.assert_array_equal(found.items[certain], slow.items[certain])


@pytest.mark.parametrize("prefix", [(5, 7), (2, 6), (2, 3)], ids=["unknown", "half known", "known"])
def test_an_item_inserted_later_is_generated(prefix: tuple[int, int]) -> None:
    codes = np.array([[code, other, 0] for code in (0, 2) for other in (1, 3)])
    table = SemanticIdTable(codes, (8, 8, 4))
    generator = Generator(make_policy(table, 4), table, DecodingConfig(beam=5))
    histories = random_histories(3, 4)
    before = generator.recommend(histories, 5, mode="generate")
    assert set(before.items.ravel().tolist()) == {-1, 0, 1, 2, 3}
    generator.insert(4, (*prefix, 2))
    after = generator.recommend(histories, 5, mode="generate")
    assert [sorted(row) for row in after.items.tolist()] == [[0, 1, 2, 3, 4]] * 3
    assert after.code_log_probs is not None
    assert np.isfinite(after.code_log_probs).all()
