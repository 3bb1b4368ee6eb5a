"""Sampling as its definition reads: walk the paths of the items left, one level at a time, with dictionaries."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import torch
from torch import Tensor

from asterism.core.semantic_id import SemanticIdTable
from asterism.models.policy import Policy


def sampling_probabilities(
    policy: Policy, state: Tensor, table: SemanticIdTable, left: Collection[int], temperature: float
) -> dict[int, float]:
    """q of each item left, for one state (1, D)."""
    paths = {item: tuple(table.codes[item].tolist()) for item in left}
    found = dict.fromkeys(left, 1.0)
    for level in range(table.levels):
        weights = {
            prefix: (policy.next_code_log_probs(state, _beam_of(prefix))[0, 0].double() / temperature).exp().tolist()
            for prefix in {path[:level] for path in paths.values()}
        }
        for item, path in paths.items():
            legal = {other[level] for other in paths.values() if other[:level] == path[:level]}
            of_prefix = weights[path[:level]]
            found[item] *= of_prefix[path[level]] / sum(of_prefix[code] for code in legal)
    return found


def _beam_of(prefix: tuple[int, ...]) -> Tensor:
    return torch.tensor(prefix, dtype=torch.long).view(1, 1, -1)


def ordered_groups(probabilities: dict[int, float], size: int) -> dict[tuple[int, ...], float]:
    """The probability of every sequence of distinct items drawn one by one from what is left."""
    groups = {}
    for group in itertools.permutations(probabilities, size):
        chance, rest = 1.0, 1.0
        for item in group:
            chance *= probabilities[item] / rest
            rest -= probabilities[item]
        groups[group] = chance
    return groups
