"""The graphs of codes and items answer what the policy answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asterism.decoding.graph.code_levels import CodeLevel, bounds_below, find, items_by_path
from asterism.decoding.graph.heads import all_item_scores, code_state, item_scores
from asterism.decoding.graph.ports import Port
from asterism.models.ugt import UGT
from decoding.graph.running import answer
from decoding.graph.small_bundle import ITEMS, SIZES, features, model
from models.small_ugt import make_model

OUT = Port("y", "float32", ("batch", "places", "codes"), "")


def states_of(one: UGT, rows: int = 4) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(rows, one.shape.model.width * (1 if one.pooling is None else 2))


def graph_log_probs(one: UGT, states: torch.Tensor, prefixes: torch.Tensor) -> np.ndarray:
    number = prefixes.shape[2]
    ports = (
        Port("state", "float32", ("batch", states.shape[1]), ""),
        Port("prefixes", "int64", ("batch", "beams", number), ""),
    )
    return answer(
        ports,
        {"state": states.numpy(), "prefixes": prefixes.numpy()},
        lambda graph, x: (
            OUT,
            CodeLevel(graph, one, number).whole_log_probs(
                code_state(one, x["state"]), *find([CodeLevel(graph, one, n) for n in range(number)], x["prefixes"])
            ),
        ),
    )


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("number", range(1, len(SIZES)))
def test_log_probs_of_every_prefix_there_could_be(number: int, pooled: bool) -> None:
    one = model(recency_pooling=pooled)
    every = np.stack(np.unravel_index(np.arange(math.prod(SIZES[:number])), SIZES[:number]), axis=1)
    prefixes = torch.from_numpy(every).expand(4, -1, -1)
    states = states_of(one)
    with torch.inference_mode():
        wanted = one.next_code_log_probs(states, prefixes).numpy()
    found = graph_log_probs(one, states, prefixes)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1.0, rtol=1e-4)
    assert len({tuple(row) for row in features().codes[:, :number].tolist()}) < len(every) or number == 1


def test_a_level_without_choice() -> None:
    """The small catalogue of the models' tests has one child for each prefix of two codes."""
    one = make_model()
    prefixes = torch.tensor([[[0, 0], [2, 3], [1, 1]]])
    states = states_of(one, 1)
    with torch.inference_mode():
        wanted = one.next_code_log_probs(states, prefixes).numpy()
    np.testing.assert_allclose(graph_log_probs(one, states, prefixes), wanted, rtol=1e-5)


def test_items_below_a_node_lie_side_by_side() -> None:
    one = model()
    items = items_by_path(one)
    assert sorted(items.tolist()) == list(range(ITEMS))
    for number in range(len(SIZES)):
        level = one.decoder.tree.level(number)
        starts, stops = bounds_below(level.of_item.numpy(), len(level))
        for node in range(len(level)):
            below = set(items[starts[node] : stops[node]].tolist())
            assert below == set((level.of_item == node).nonzero()[:, 0].tolist())


@pytest.mark.parametrize("pooled", [False, True])
def test_item_scores(pooled: bool) -> None:
    one = model(recency_pooling=pooled)
    states = states_of(one)
    candidates = torch.randint(ITEMS, (4, 7))
    port = Port("state", "float32", ("batch", states.shape[1]), "")
    asked = Port("candidates", "int64", ("batch", "candidates"), "")
    out = Port("y", "float32", ("batch", "n"), "")
    with torch.inference_mode():
        wanted, wanted_all = one.item_scores(states, candidates).numpy(), one.item_scores(states).numpy()
    feeds = {"state": states.numpy(), "candidates": candidates.numpy()}
    found = answer((port, asked), feeds, lambda graph, x: (out, item_scores(graph, one, x["state"], x["candidates"])))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    every = answer((port,), {"state": states.numpy()}, lambda graph, x: (out, all_item_scores(graph, one, x["state"])))
    np.testing.assert_allclose(every, wanted_all, rtol=1e-4, atol=1e-4)
