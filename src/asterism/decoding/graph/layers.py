"""Trained layers as nodes of a graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from asterism.decoding.graph.values import Value
from asterism.models.ugt.experts import FeedForward, MixtureOfExperts
from asterism.models.ugt.group_norm import GroupLayerNorm

_EPSILON = 1e-5  # of `functional.layer_norm`


def weights(tensor: Tensor) -> NDArray[np.float32]:
    """A parameter's values."""
    found: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return found


def rows_of(table: nn.Embedding, places: Value) -> Value:
    """(…) long → (…, D)."""
    return places.graph.constant(weights(table.weight)).at(places)


def linear(layer: nn.Linear, states: Value, *, rough: bool = False) -> Value:
    """(…, D) → (…, E)."""
    factor = states.graph.constant(weights(layer.weight).T)
    product = states.rough_product(factor) if rough else states @ factor
    return product if layer.bias is None else product + states.graph.constant(weights(layer.bias))


def layer_norm(norm: nn.LayerNorm, states: Value) -> Value:
    """(…, D) → (…, D)."""
    return states.layer_norm(weights(norm.weight), weights(norm.bias), norm.eps)


def group_norm(norm: GroupLayerNorm, states: Value, group: int) -> Value:
    """(…, D) → (…, D), all of one group."""
    return states.layer_norm(weights(norm.scale)[group], weights(norm.shift)[group], _EPSILON)


def token_norm(norm: nn.Module, states: Value, groups: Value) -> Value:
    """(B, L, D) → (B, L, D); `groups` (L,) long is what norm each column takes."""
    if not isinstance(norm, GroupLayerNorm):
        assert isinstance(norm, nn.LayerNorm)
        return layer_norm(norm, states)
    graph, width = states.graph, norm.scale.shape[1]
    normed = states.layer_norm(np.ones(width, np.float32), np.zeros(width, np.float32), _EPSILON)
    scale, shift = (graph.constant(weights(one)).at(groups) for one in (norm.scale, norm.shift))
    return normed * scale + shift


def feed_forward(layer: FeedForward, states: Value, groups: Value) -> Value:
    """(B, L, D) → (B, L, D), what it is added to included."""
    normed = token_norm(layer.norm, states, groups)
    if layer.mixture is not None:
        return states + _mixture(layer.mixture, normed)
    assert layer.network is not None
    expand, contract = (one for one in layer.network if isinstance(one, nn.Linear))
    return states + linear(contract, linear(expand, normed, rough=True).silu(), rough=True)


def _mixture(mixture: MixtureOfExperts, tokens: Value) -> Value:
    """All experts are asked, and those that a token did not choose weigh nothing.

    Of equal probabilities the expert with the lower number wins, as TopK promises.
    """
    graph, (experts, width, _) = tokens.graph, mixture.expand.shape
    gates, chosen = linear(mixture.router, tokens).softmax().best(mixture.top_k)
    if mixture.top_k > 1:
        gates = gates / gates.sum(-1, keep=True)
    of_expert = chosen.unsqueeze(-1).equals(graph.constant(np.arange(experts)))
    shares = (of_expert.cast(np.float32) * gates.unsqueeze(-1)).sum(-2)  # (B, L, n)
    rows = tokens.reshape(1, -1, width)
    hidden = (
        rows.rough_product(graph.constant(weights(mixture.expand))) + graph.constant(weights(mixture.expand_bias))
    ).silu()
    answers = hidden.rough_product(graph.constant(weights(mixture.contract))) + graph.constant(
        weights(mixture.contract_bias)
    )
    by_row = shares.reshape(-1, experts).transpose(1, 0).unsqueeze(-1)  # (n, B · L, 1)
    return (answers * by_row).sum(0).shaped_like(tokens)
