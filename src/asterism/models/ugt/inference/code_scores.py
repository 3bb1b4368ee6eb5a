"""What the code decoder answers to a beam, from node vectors that are computed once."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.models.ugt.code_tree import TreeLevel
from asterism.models.ugt.decoder import SAFE_CEILING, UNSEEN_SHARE, CodeDecoder, log_sum_exp
from asterism.models.ugt.inference.linear import Precision, activation_type
from asterism.models.ugt.inference.siblings import LevelArrays, Siblings

#: Children, known or not, up to which a level keeps a table of them by parent and code.
_TABLE_CHILDREN: Final = 1 << 20
#: Nodes up to which a level's vectors stay fp32: there is little to win, and no two scores are rounded to one.
_SMALL_LEVEL: Final = 1 << 12
#: Copying a node's vector to where it is asked for takes as long as multiplying so many in place with all states.
_COPY_COST: Final = 8
#: How far below every score a missing child's stands: enough to vanish in a sum; of an infinity exp is slow.
_NOTHING: Final = 60.0
#: What a query is divided by at least, as in `functional.normalize`.
_SHORTEST: Final = 1e-12
#: Nodes whose vectors are made at a time.
_AT_ONCE: Final = 1 << 18


class InferenceDecoder:
    """`CodeDecoder.log_probs` for requests: the same distribution over the codes of a level.

    Products of states and nodes are in the precision's type on large levels, all that follows is fp32. Levels with
    few possible children are answered from a table (parents, codes) of nodes; others list the children of prefixes.
    """

    def __init__(self, decoder: CodeDecoder, precision: Precision) -> None:
        with torch.no_grad():
            self._levels = [_Level(decoder, number, precision) for number in range(len(decoder.tree.levels))]
        self._siblings = Siblings.of([one.arrays() for one in self._levels], decoder.temperature)

    def log_probs(self, states: Tensor, prefixes: Tensor) -> Tensor:
        """(B, D) states, (B, W, l) prefixes → (B, W, codes of level l) log-probabilities, which sum to one."""
        if prefixes.shape[-1] == 0:
            return self._levels[0].at_root(states)[:, None].expand(-1, prefixes.shape[1], -1)
        parents = torch.zeros(prefixes.shape[:-1], dtype=torch.long)
        for number in range(prefixes.shape[-1]):
            parents = self._levels[number].child(parents, prefixes[..., number])
        return self._levels[prefixes.shape[-1]].log_probs(states, parents)

    @property
    def native(self) -> tuple[int, int] | None:
        """Where compiled code stands that answers the same, and what it is to be given first; None without any."""
        return None if self._siblings is None else (self._siblings.function, self._siblings.context)

    def step_log_probs(self, states: Tensor, prefixes: Tensor, origins: Tensor, codes: Tensor) -> Tensor:
        """(B, D) states, (B, W, l) prefixes, int32 origins and codes (n,) → (n,), see `ScoresSteps`."""
        if self._siblings is not None:
            return self._siblings.log_probs(states, prefixes, origins, codes)
        with torch.inference_mode():
            return self.log_probs(states, prefixes).flatten(0, 1)[origins, codes]


class _Level:
    """One level's nodes."""

    def __init__(self, decoder: CodeDecoder, number: int, precision: Precision) -> None:
        level = decoder.tree.level(number)
        self._level = level
        self._size = level.size
        self._count = len(level)
        self._temperature = decoder.temperature
        self._vectors: Tensor | None = None  # (nodes, D); None where nothing branches, so no score matters
        if number in decoder.branching:
            kind = torch.float if self._count <= _SMALL_LEVEL else activation_type(precision)
            self._vectors = _unit_vectors(decoder, number, kind)
            #: A state turns into a query by one product: s + W s = (I + W) s.
            turn = decoder.turns[str(number)]
            assert isinstance(turn, nn.Linear)
            self._turn, self._shift = torch.eye(turn.in_features) + turn.weight.detach(), turn.bias.detach()
        self._codes = level.paths[:, -1].contiguous()
        unseen = level.size - level.counts
        #: (parents,) log-probability of each code that a parent was not seen with, and of all that it was seen with.
        self._of_unseen = (torch.where(level.counts > 0, UNSEEN_SHARE, 1.0) / unseen.clamp(min=1)).log()
        self._of_seen = torch.where(unseen > 0, math.log1p(-UNSEEN_SHARE), 0.0)
        self._nodes: Tensor | None = None  # (parents, codes), where there is a table
        if len(level.counts) * level.size <= _TABLE_CHILDREN:
            self._nodes = _node_table(level)
            #: (parents, codes) what an unseen code is given, -inf for the others.
            self._floors = torch.where(self._nodes == self._count, self._of_unseen[:, None], -torch.inf)

    def arrays(self) -> LevelArrays:
        """What compiled code reads of it."""
        turn = None if self._vectors is None else (self._turn, self._shift)
        return LevelArrays(self._size, self._level, self._codes, self._of_unseen, self._of_seen, self._vectors, turn)

    def child(self, parents: Tensor, codes: Tensor) -> Tensor:
        """The nodes (...) that codes lead to from parents (...); -1 where none is known."""
        if self._nodes is None:
            return self._level.child(parents, codes)
        found = self._nodes.view(-1)[(parents * self._size + codes).clamp_(min=0)].long()
        return torch.where((parents >= 0) & (found < self._count), found, -1)

    def log_probs(self, states: Tensor, parents: Tensor) -> Tensor:
        """(B, D), (B, W) nodes of the level before, -1 for unknown ones → (B, W, codes)."""
        known = parents >= 0
        if bool(known.all()):
            rows = torch.arange(len(parents)).repeat_interleave(parents.shape[1])
            return self._of_pairs(states, rows, parents.flatten()).view(*parents.shape, self._size)
        result = states.new_full((*parents.shape, self._size), -math.log(self._size), dtype=torch.float)
        if bool(known.any()):
            rows, beams = known.nonzero(as_tuple=True)
            result[rows, beams] = self._of_pairs(states, rows, parents[rows, beams])
        return result

    def at_root(self, states: Tensor) -> Tensor:
        """(B, D) → (B, codes) of the empty prefix."""
        if self._vectors is None:
            scores = torch.zeros(len(states), self._count)
        else:
            scores = (self._queries(states) @ self._vectors.T).float()
        log_probs = torch.log_softmax(scores, dim=1) + self._of_seen[0]
        if self._count == self._size:
            return log_probs
        result = self._of_unseen[:1].repeat(len(states), self._size)
        result[:, self._codes] = log_probs
        return result

    def _of_pairs(self, states: Tensor, rows: Tensor, parents: Tensor) -> Tensor:
        """(n,) rows of states and the parents (n,) that they ask about, in order of rows → (n, codes)."""
        counts = self._level.counts.index_select(0, parents)
        total = int(counts.sum())
        if self._nodes is not None and self._vectors is not None and total * _COPY_COST > self._count:
            return self._from_table(states, rows, parents)
        asking = torch.repeat_interleave(counts, output_size=total)  # which of the n a child belongs to
        shifts = self._level.first.index_select(0, parents) + counts - counts.cumsum(0)
        nodes = shifts.index_select(0, asking) + torch.arange(total)
        scores = self._pair_scores(states, rows.index_select(0, asking), nodes)
        sums = log_sum_exp(scores, asking, len(parents), 1 / self._temperature)
        scores -= (sums - self._of_seen.index_select(0, parents)).index_select(0, asking)
        result = self._of_unseen.index_select(0, parents)[:, None].repeat(1, self._size)
        result.view(-1).scatter_(0, asking * self._size + self._codes.index_select(0, nodes), scores)
        return result

    def _from_table(self, states: Tensor, rows: Tensor, parents: Tensor) -> Tensor:
        assert self._nodes is not None
        nodes = self._nodes.index_select(0, parents)  # (n, codes), one past the last node where there is none
        products = self._products(states)
        places = torch.add(rows[:, None].int(), nodes, alpha=products.shape[1])
        found = products.view(-1).index_select(0, places.view(-1))
        scores = found.float().view(nodes.shape)
        scores -= (self._log_sum_exp(scores) - self._of_seen[parents])[:, None]
        return torch.maximum(scores, self._floors.index_select(0, parents), out=scores)

    def _log_sum_exp(self, scores: Tensor) -> Tensor:
        """(n, codes) → (n,); without a look for the largest score where none can be too large for exp."""
        if self._temperature * SAFE_CEILING < 1:
            return torch.logsumexp(scores, dim=1)
        return scores.exp().sum(dim=1).log_()

    def _pair_scores(self, states: Tensor, rows: Tensor, nodes: Tensor) -> Tensor:
        """(n,) scores of rows of states, ascending, and nodes; where nodes have no siblings they do not matter."""
        if self._vectors is None:
            return torch.zeros(len(nodes))
        if len(nodes) * _COPY_COST > self._count:
            return self._products(states)[nodes, rows].float()
        queries = self._queries(states)
        if len(states) == 1:
            return (self._vectors.index_select(0, nodes) @ queries[0]).float()
        counts = torch.bincount(rows, minlength=len(states))
        within = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
        block = torch.zeros(len(states), int(counts.max()), dtype=torch.long)
        block[rows, within] = nodes
        asked = self._vectors.index_select(0, block.view(-1)).view(*block.shape, -1)
        products = torch.bmm(asked, queries[:, :, None])[:, :, 0]
        return products[rows, within].float()

    def _queries(self, states: Tensor) -> Tensor:
        assert self._vectors is not None
        turned = functional.linear(states, self._turn, self._shift)
        turned /= torch.linalg.vector_norm(turned, dim=1, keepdim=True).clamp_(min=_SHORTEST).mul_(self._temperature)
        return turned.to(self._vectors.dtype)

    def _products(self, states: Tensor) -> Tensor:
        """(nodes + 1, at least B) scores of all nodes, the last row next to nothing.

        Far faster than the other way round.
        """
        assert self._vectors is not None
        queries = self._queries(states)
        if len(queries) == 1:  # one column is multiplied by another, slower kernel
            queries = queries.repeat(2, 1)
        found = self._vectors.new_empty(self._count + 1, len(queries))
        torch.mm(self._vectors, queries.T, out=found[:-1])
        found[-1] = -1 / self._temperature - _NOTHING
        return found


def _unit_vectors(decoder: CodeDecoder, number: int, kind: torch.dtype) -> Tensor:
    """(nodes, D) of a level, made part by part: in fp32 a level of millions would take several times its room."""
    count = len(decoder.tree.level(number))
    found: Tensor | None = None
    for start in range(0, count, _AT_ONCE):
        nodes = torch.arange(start, min(start + _AT_ONCE, count))
        made = decoder.node_vectors(number, nodes)
        if found is None:
            found = made.new_empty(count, made.shape[1], dtype=kind)
        found[start : start + len(nodes)] = made
    assert found is not None
    return found


def _node_table(level: TreeLevel) -> Tensor:
    """(parents, codes) int32 the node that a code leads to, one past the last where there is none."""
    table = torch.full((len(level.counts) * level.size,), len(level), dtype=torch.int32)
    table[level.keys] = torch.arange(len(level), dtype=torch.int32)
    return table.view(-1, level.size)
