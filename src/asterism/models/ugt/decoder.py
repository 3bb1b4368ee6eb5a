"""The light code decoder: a semantic id, level by level, from the user's state alone."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.models.ugt.code_tree import CodeTree, Siblings, TreeLevel
from asterism.models.ugt.items import small_embedding
from asterism.models.ugt.pair_products import pair_products

#: What a prefix leaves to all codes together that it was never seen with, so that new items can be reached.
UNSEEN_SHARE: Final = 1e-3

#: A level with more prefixes than this gives them no vectors of their own: codes and content stand for them.
MAX_FREE_NODES: Final = 1 << 18

#: Levels whose prefixes know the mean content of their items; below them few siblings are left to tell apart.
CONTENT_LEVELS: Final = 2

#: Scores up to which a level's whole matrix of them costs less than choosing.
_SMALL_PRODUCT: Final = 1 << 16

#: Up to here exp(−2 · ceiling) is still a normal number, so a row's sum is not zero whatever its scores.
SAFE_CEILING: Final = 40.0


class SiblingScores(NamedTuple):
    """For each of P questions of one level, the score of the right prefix against those of all siblings."""

    own: Tensor  # (P,) float
    log_sum: Tensor  # (P,) float, log Σ exp over the siblings' scores, the right one's among them


class CodeDecoder(nn.Module):
    """A softmax over siblings at each level of the tree of codes, by cosine over a temperature.

    p(c_l | c_<l, s) ∝ exp(cos(q_l(s), n) / τ) over the nodes n below c_<l: a hierarchical softmax (Morin and Bengio
    2005; Mnih and Hinton 2009) on the semantic ids' own tree. A node's vector is one of its own (on levels of too
    many nodes the sum of its codes' vectors), on the first two levels with its items' mean content. The history is
    not looked at again, and the query does not depend on the prefix, so a beam costs scalar products alone.
    """

    def __init__(
        self,
        width: int,
        codes: Tensor,
        codebook_sizes: tuple[int, ...],
        content: Tensor | None,
        temperature: float,
    ) -> None:
        """`codes` (N, levels) and `content` (N, C) of the catalogue, which decide the tree; `temperature` τ."""
        super().__init__()
        self.temperature = temperature
        self.tree = CodeTree(codes.long(), codebook_sizes, content, CONTENT_LEVELS)
        # Where no prefix has two children there is nothing to choose, and nothing to learn.
        self.branching = [number for number in range(len(codebook_sizes)) if self.tree.level(number).branches]
        self.vectors = nn.ModuleDict(
            {str(n): _LevelVectors(width, codebook_sizes[: n + 1], self.tree.level(n), content) for n in self.branching}
        )
        self.turns = nn.ModuleDict({str(n): zero_linear(width) for n in self.branching})
        self._kept: dict[int, Tensor] = {}

    def train(self, mode: bool = True) -> CodeDecoder:
        """Forget the node vectors that evaluation had kept."""
        self._kept = {}
        super().train(mode)
        return self

    def queries(self, states: Tensor, number: int) -> Tensor:
        """(..., D) states → (..., D) what is compared with the nodes of a level, over the temperature."""
        turned = states + self.turns[str(number)](states)
        return functional.normalize(turned, dim=-1) / self.temperature

    def forward(self, states: Tensor, items: Tensor) -> list[SiblingScores]:
        """(P, D) states and the items (P,) that followed → the scores of each level that branches."""
        return [self._training_scores(states, items, number) for number in self.branching]

    def _training_scores(self, states: Tensor, items: Tensor, number: int) -> SiblingScores:
        level = self.tree.level(number)
        parents, run_of_row = torch.unique(self.tree.parents_of(items, number), return_inverse=True)
        runs = level.below(parents)  # disjoint, so each node is there once
        vectors = self._vectors(number, runs.nodes)
        counts = level.counts[parents]
        starts, counts = (counts.cumsum(0) - counts)[run_of_row], counts[run_of_row]
        rights = starts + level.of_item[items] - level.first[parents][run_of_row]
        queries = self.queries(states, number)
        own = (queries * vectors[rights]).sum(-1)
        if len(parents) == 1:
            return SiblingScores(own, torch.logsumexp((queries @ vectors.T).float(), dim=-1))
        rows = torch.repeat_interleave(torch.arange(len(items), device=items.device), counts)
        places = torch.arange(len(rows), device=items.device) + (starts - (counts.cumsum(0) - counts))[rows]
        scores = _pair_scores(queries, vectors, Siblings(rows, places))
        return SiblingScores(own, log_sum_exp(scores, rows, len(items), 1 / self.temperature))

    def log_probs(self, states: Tensor, prefixes: Tensor) -> Tensor:
        """(B, D) states, (B, W, l) prefixes → (B, W, codes of level l) log-probabilities, which sum to one.

        Codes that no known item has below a prefix share `UNSEEN_SHARE`; below an unknown prefix all are alike.
        """
        number = prefixes.shape[-1]
        level = self.tree.level(number)
        parents = self.tree.find(prefixes).flatten()
        known = torch.nonzero(parents >= 0)[:, 0]
        seen = level.counts[parents.clamp(min=0)] * (parents >= 0)
        unseen = level.size - seen
        share = torch.where(seen > 0, UNSEEN_SHARE, 1.0) / unseen.clamp(min=1)
        result = share.log()[:, None].repeat(1, level.size)
        runs = level.below(parents[known])
        rows = known[runs.rows]
        scores = self._scores(states, Siblings(rows // prefixes.shape[1], runs.nodes), number)
        left = torch.where(unseen > 0, math.log1p(-UNSEEN_SHARE), 0.0)
        normaliser = log_sum_exp(scores, rows, len(parents), 1 / self.temperature)
        result[rows, level.paths[runs.nodes, -1]] = scores - normaliser[rows] + left[rows]
        return result.view(*prefixes.shape[:-1], level.size)

    def _scores(self, states: Tensor, pairs: Siblings, number: int) -> Tensor:
        """(n,) scores of states (B, D) with nodes, pair by pair; where nodes have no siblings scores do not matter."""
        if number not in self.branching:
            return states.new_zeros(len(pairs.rows), dtype=torch.float)
        return _pair_scores(self.queries(states, number), self._kept_vectors(number), pairs)

    def node_vectors(self, number: int, nodes: Tensor | None = None) -> Tensor:
        """(n, D) unit vectors of nodes (n,) of a level that branches, or of all of them."""
        if nodes is None:
            nodes = torch.arange(len(self.tree.level(number)), device=self.tree.level(number).keys.device)
        return self._vectors(number, nodes)

    def _kept_vectors(self, number: int) -> Tensor:
        if number in self._kept:
            return self._kept[number]
        vectors = self.node_vectors(number)
        if not self.training and not torch.is_grad_enabled():
            self._kept[number] = vectors
        return vectors

    def _vectors(self, number: int, nodes: Tensor) -> Tensor:
        made: Tensor = self.vectors[str(number)](self.tree.level(number), nodes)
        return functional.normalize(made, dim=-1)


class _LevelVectors(nn.Module):
    """What the vectors of one level's nodes are made of."""

    def __init__(self, width: int, sizes: tuple[int, ...], level: TreeLevel, content: Tensor | None) -> None:
        super().__init__()
        free = len(level) <= MAX_FREE_NODES
        self.own = small_embedding(len(level), width) if free else None
        self.code_vectors = nn.ModuleList(small_embedding(size, width) for size in ([] if free else sizes))
        described = content is not None and len(sizes) <= CONTENT_LEVELS
        self.project = nn.Linear(content.shape[1], width) if content is not None and described else None

    def forward(self, level: TreeLevel, nodes: Tensor) -> Tensor:
        """(n,) nodes → (n, D)."""
        parts = [] if self.own is None else [self.own(nodes)]
        paths = level.paths[nodes]
        parts += [table(paths[:, place]) for place, table in enumerate(self.code_vectors)]
        if self.project is not None:
            parts.append(self.project(level.content[nodes]))
        total: Tensor = sum(parts[1:], start=parts[0])
        return total


def zero_linear(width: int) -> nn.Linear:
    """A linear map that starts at zero, to be added to what is there."""
    linear = nn.Linear(width, width)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def log_sum_exp(scores: Tensor, rows: Tensor, count: int, ceiling: float) -> Tensor:
    """(count,) log Σ exp over the scores (n,) of each row; none is beyond ± `ceiling`; -inf for a row without any."""
    sums = scores.new_zeros(count)
    if ceiling <= SAFE_CEILING:
        return sums.index_add(0, rows, torch.exp(scores - ceiling)).log() + ceiling
    largest = scores.new_full((count,), -ceiling).scatter_reduce(0, rows, scores.detach(), "amax")
    return sums.index_add(0, rows, torch.exp(scores - largest[rows])).log() + largest


def _pair_scores(queries: Tensor, vectors: Tensor, pairs: Siblings) -> Tensor:
    """(n,) scalar products of queries (P, D) and vectors (M, D); pairs in the order of their rows.

    By one matrix product where most of it is asked for, or where it is small.
    """
    if len(queries) * len(vectors) <= max(len(pairs.rows) * 8, _SMALL_PRODUCT):
        return (queries @ vectors.T)[pairs.rows, pairs.nodes].float()
    counts = torch.bincount(pairs.rows, minlength=len(queries))
    return pair_products(queries, vectors, counts, pairs.nodes)
