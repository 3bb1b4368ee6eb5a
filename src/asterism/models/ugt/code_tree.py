"""The tree of the catalogue's code paths as flat arrays: which prefixes are known, and where their children lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class Siblings(NamedTuple):
    """Runs of children, one run for each of P prefixes, laid end to end."""

    rows: Tensor  # (n,) long, which of the P prefixes a child belongs to
    nodes: Tensor  # (n,) long, the child's number among the nodes of its level


class TreeLevel(nn.Module):
    """The known prefixes of one length, in order of parent and code, so that siblings lie side by side."""

    keys: Tensor
    paths: Tensor
    first: Tensor
    counts: Tensor
    of_item: Tensor
    content: Tensor

    def __init__(self, size: int, codes: Tensor, parents: Tensor, parent_count: int, content: Tensor | None) -> None:
        """`codes` (N, l + 1): the items' codes up to this level; `parents` (N,): their nodes of the level before."""
        super().__init__()
        self.size = size
        keys, of_item = torch.unique(parents * size + codes[:, -1], return_inverse=True)
        some_item = np.unique(of_item.numpy(), return_index=True)[1]
        counts = torch.bincount(torch.div(keys, size, rounding_mode="floor"), minlength=parent_count)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("paths", codes[torch.from_numpy(some_item)], persistent=False)
        self.register_buffer("first", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("of_item", of_item, persistent=False)
        self.branches = bool((counts > 1).any())
        if content is not None:
            sums = content.new_zeros(len(keys), content.shape[1]).index_add_(0, of_item, content)
            self.register_buffer("content", sums / torch.bincount(of_item)[:, None], persistent=False)

    def __len__(self) -> int:
        return len(self.keys)

    def child(self, parents: Tensor, codes: Tensor) -> Tensor:
        """The nodes (...) that codes lead to from parents, numbered in the level before; -1 where none is known."""
        keys = parents * self.size + codes
        places = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where((self.keys[places] == keys) & (parents >= 0), places, -1)

    def below(self, parents: Tensor) -> Siblings:
        """All known children of (P,) parents."""
        counts = self.counts[parents]
        rows = torch.repeat_interleave(torch.arange(len(parents), device=parents.device), counts)
        within = torch.arange(len(rows), device=parents.device) - (counts.cumsum(0) - counts)[rows]
        return Siblings(rows, self.first[parents][rows] + within)


class CodeTree(nn.Module):
    """All levels of the tree; nothing in it is learned, and nothing is saved with the weights."""

    def __init__(
        self, codes: Tensor, codebook_sizes: tuple[int, ...], content: Tensor | None, content_levels: int
    ) -> None:
        """`codes` (N, levels) long; `content` (N, C), whose means over items the first `content_levels` levels hold."""
        super().__init__()
        self.levels = nn.ModuleList()
        parents, parent_count = torch.zeros(len(codes), dtype=torch.long), 1
        for level, size in enumerate(codebook_sizes):
            means = content if level < content_levels else None
            made = TreeLevel(size, codes[:, : level + 1], parents, parent_count, means)
            self.levels.append(made)
            parents, parent_count = made.of_item, len(made)

    def level(self, number: int) -> TreeLevel:
        """The level of prefixes of `number + 1` codes."""
        found = self.levels[number]
        assert isinstance(found, TreeLevel)
        return found

    def find(self, prefixes: Tensor) -> Tensor:
        """Prefixes (..., l) → their nodes (...); the empty prefix is node 0, an unknown one -1."""
        nodes = torch.zeros(prefixes.shape[:-1], dtype=torch.long, device=prefixes.device)
        for number in range(prefixes.shape[-1]):
            nodes = self.level(number).child(nodes, prefixes[..., number])
        return nodes

    def parents_of(self, items: Tensor, number: int) -> Tensor:
        """The nodes (P,) above the items' nodes of a level."""
        return torch.zeros_like(items) if number == 0 else self.level(number - 1).of_item[items]
