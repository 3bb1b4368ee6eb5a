"""The code decoder as nodes of a graph, over the catalogue's tree as constants."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.decoding.graph.layers import linear, weights
from asterism.decoding.graph.values import Graph, Value
from asterism.models.ugt import UGT
from asterism.models.ugt.decoder import UNSEEN_SHARE, CodeDecoder

#: What stands in for the score of a sibling that is not there: its probability is zero, and no sum becomes NaN.
_NO_SIBLING = -1e9
#: A node's vector that is fetched for one row costs as much as so many that are multiplied for a batch.
_FEW = 16


class Children(NamedTuple):
    """The known children of P prefixes in each of B rows, as many columns as the level's largest family."""

    nodes: Value  # (B, P, C) long; some node where there is no child
    legal: Value  # (B, P, C) bool, whether there is a child


class CodeLevel:
    """One level of the tree; siblings are numbered one after another, so a family is its first node and a count."""

    def __init__(self, graph: Graph, model: UGT, number: int) -> None:
        decoder = model.decoder
        level = decoder.tree.level(number)
        self.graph, self.number, self.size, self.nodes = graph, number, level.size, len(level)
        self.family = int(level.counts.max())
        self._decoder = decoder
        self._level = level
        self._first = graph.table(f"first nodes of level {number}", level.first.numpy)
        self._counts = graph.table(f"families of level {number}", level.counts.numpy)

    def bounds(self, nodes: Value) -> tuple[Value, Value]:
        """Where the items below nodes (B, M) start and stop in the order of their paths."""
        graph, of_item, count = self.graph, self._level.of_item.numpy(), self.nodes
        starts = graph.table(f"starts of level {self.number}", lambda: bounds_below(of_item, count)[0])
        stops = graph.table(f"stops of level {self.number}", lambda: bounds_below(of_item, count)[1])
        return starts.at(nodes), stops.at(nodes)

    def children(self, parents: Value) -> Children:
        """Of parents (B, P) long, numbered in the level before."""
        rank = self.graph.constant(np.arange(self.family))
        legal = rank < self._counts.at(parents).unsqueeze(2)
        nodes = (self._first.at(parents).unsqueeze(2) + rank).at_most(self.nodes - 1)
        return Children(nodes, legal)

    def codes(self, children: Children) -> Value:
        """(B, P, C) long, the last code of each child."""
        last = self.graph.table(f"codes of level {self.number}", lambda: self._level.paths[:, -1].numpy())
        return last.at(children.nodes)

    def log_probs(self, states: Value, parents: Value, children: Children, prefixes: int | None = None) -> Value:
        """(B, D) states → (B, P, C) log p(child | parent, state); for no child a large negative number.

        Where P is told, and the children are few beside the level's nodes, they alone are scored.
        """
        left = self.graph.table(f"shares of level {self.number}", self._left).at(parents).unsqueeze(2)
        if self.number not in self._decoder.branching:
            return self.graph.where(children.legal, left, _NO_SIBLING)
        nodes = children.nodes.flat(1)
        if prefixes is not None and prefixes * self.family * _FEW < self.nodes:
            scores = (self._vectors().at(nodes) @ self._queries(states).unsqueeze(2)).shaped_like(children.nodes)
        else:
            scores = self._scores(states).along(nodes, 1).shaped_like(children.nodes)
        return self.graph.where(children.legal, scores, _NO_SIBLING).log_softmax() + left

    def whole_log_probs(self, states: Value, parents: Value, known: Value) -> Value:
        """(B, D) → (B, P, codes), as `CodeDecoder.log_probs`; below a prefix that is not `known` (B, P) all alike."""
        graph, found = self.graph, self.children(parents)
        legal = found.legal & known.unsqueeze(2)
        share = graph.where(
            known, graph.table(f"others of level {self.number}", self._others).at(parents), -math.log(self.size)
        ).unsqueeze(2)
        spread = share.expand(graph.constant([1, 1, self.size + 1]))  # the last column takes what is no child
        places = graph.where(legal, self.codes(found), self.size)
        return spread.scattered(places, self.log_probs(states, parents, found), 2).part(0, self.size, 2)

    def _left(self) -> NDArray[np.float32]:
        """By parent the log share of its known children."""
        unseen = self.size - self._level.counts.numpy()
        return np.where(unseen > 0, math.log1p(-UNSEEN_SHARE), 0.0).astype(np.float32)

    def _others(self) -> NDArray[np.float32]:
        """By parent the log-probability of each code that is no known child's."""
        unseen = self.size - self._level.counts.numpy()
        share = np.where(unseen < self.size, UNSEEN_SHARE, 1.0)
        found: NDArray[np.float32] = np.log(share / np.maximum(unseen, 1)).astype(np.float32)
        return found

    def _scores(self, states: Value) -> Value:
        """(B, D) → (B, nodes) cosines over the temperature."""
        return self._queries(states) @ self._vectors(transposed=True)

    def _queries(self, states: Value) -> Value:
        return (states + linear(_turn(self._decoder, self.number), states)).unit()

    def _vectors(self, transposed: bool = False) -> Value:
        def made() -> NDArray[np.float32]:
            with torch.no_grad():
                found = weights(self._decoder.node_vectors(self.number)) / np.float32(self._decoder.temperature)
            return found.T if transposed else found

        return self.graph.table(f"nodes of level {self.number}{' as columns' if transposed else ''}", made)


def find(levels: list[CodeLevel], prefixes: Value) -> tuple[Value, Value]:
    """(B, P, l) long → their nodes (B, P), 0 where they are not known, and whether they are."""
    graph = prefixes.graph
    nodes = prefixes.sum(2) * 0
    known = nodes >= 0
    for level in levels:
        found = level.children(nodes)
        code = prefixes.part(level.number, level.number + 1, 2)
        match = (found.legal & level.codes(found).equals(code)).cast(np.int64)
        known = known & (match.sum(2) > 0)
        nodes = graph.where(known, (match * found.nodes).sum(2), 0)
    return nodes, known


def items_by_path(model: UGT) -> NDArray[np.int64]:
    """(N,) items in the order of their paths."""
    last = len(model.codebook_sizes) - 1
    found: NDArray[np.int64] = np.argsort(model.decoder.tree.level(last).of_item.numpy(), kind="stable")
    return found


def bounds_below(of_item: NDArray[np.int64], nodes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(nodes,) where each node's items start and stop in the order of paths; `of_item` (N,), the items' nodes."""
    stops = np.cumsum(np.bincount(of_item, minlength=nodes))
    return np.concatenate([[0], stops[:-1]]).astype(np.int64), stops.astype(np.int64)


def _turn(decoder: CodeDecoder, number: int) -> torch.nn.Linear:
    turn = decoder.turns[str(number)]
    assert isinstance(turn, torch.nn.Linear)
    return turn
