"""What an item is to the model: the sum of its code vectors, its projected content and its own vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def small_embedding(count: int, width: int) -> nn.Embedding:
    """An embedding that starts near zero, so that no part of a sum drowns the others."""
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=0.02)
    return table


class ItemEncoder(nn.Module):
    """One vector an item; codes and content are given, only their projections are learned.

    Buffers `codes` (N, levels) long and `content` (N, C) float come from the bundle's other parts
    and are not saved with the weights.
    """

    codes: Tensor
    content: Tensor

    def __init__(
        self, codes: Tensor, codebook_sizes: tuple[int, ...], content: Tensor | None, width: int, id_vectors: bool
    ) -> None:
        super().__init__()
        self.register_buffer("codes", codes.long(), persistent=False)
        self.code_vectors = nn.ModuleList(small_embedding(size, width) for size in codebook_sizes)
        self.own = small_embedding(len(codes), width) if id_vectors else None
        self.project = None
        if content is not None:
            self.register_buffer("content", content.float(), persistent=False)
            self.project = nn.Linear(content.shape[1], width)

    @property
    def count(self) -> int:
        """Items in the catalogue."""
        return self.codes.shape[0]

    def forward(self, items: Tensor) -> Tensor:
        """(...,) long item indices → (..., D)."""
        codes = self.codes[items]
        total: Tensor = self.code_vectors[0](codes[..., 0])
        for level, table in enumerate(self.code_vectors[1:], start=1):
            total = total + table(codes[..., level])
        if self.project is not None:
            total = total + self.project(self.content[items])
        if self.own is not None:
            total = total + self.own(items)
        return total

    def all(self) -> Tensor:
        """(N, D) vectors of the whole catalogue."""
        vectors: Tensor = self(torch.arange(self.count, device=self.codes.device))
        return vectors

    def window_means(self, items: Tensor, sizes: Tensor) -> Tensor:
        """(E,) items, window by window, and the sizes (W,) of the windows → (W, D) means of the items' vectors.

        An item's vector is a sum of rows and of a linear map, so the means are taken before they are added up:
        no (E, D) vectors are made.
        """
        starts = starts_of(sizes)
        codes = self.codes[items]
        tables = list(self.code_vectors.parameters())  # one a level
        total = row_means(codes[:, 0], tables[0], starts)
        for level, table in enumerate(tables[1:], start=1):
            total = total + row_means(codes[:, level], table, starts)
        if self.project is not None:
            total = total + self.project(row_means(items, self.content, starts))
        if self.own is not None:
            total = total + row_means(items, self.own.weight, starts)
        return total


def starts_of(sizes: Tensor) -> Tensor:
    """(W,) sizes of runs → (W,) where each begins."""
    return sizes.cumsum(0) - sizes


def row_means(rows: Tensor, table: Tensor, starts: Tensor) -> Tensor:
    """(E,) rows of a table (N, D), run by run, and where the runs start (W,) → (W, D); zeros for an empty run."""
    return functional.embedding_bag(rows, table, starts, mode="mean")
