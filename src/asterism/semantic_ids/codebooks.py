"""Codebooks: a vector as a sum of centroids, one a level, each nearest to what the levels above left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.semantic_ids.kmeans import assign_codes, chunks
from asterism.semantic_ids.quantizer import check_vectors


@dataclass(frozen=True, slots=True)
class Codebooks:
    """The centroids of each level, coarse to fine, and where clusters are balanced a price for each."""

    centroids: tuple[NDArray[np.float32], ...]  # each (K ≤ the configured number, D)
    prices: tuple[NDArray[np.float32], ...] = ()  # each (K,), added to squared distances; empty where all are free

    @property
    def width(self) -> int:
        """D, the width of the vectors that are quantised."""
        return int(self.centroids[0].shape[1])

    @property
    def levels(self) -> int:
        """Levels of codes, without the de-duplication level."""
        return len(self.centroids)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has."""
        return tuple(len(one) for one in self.centroids)

    def assign(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
        """(N, levels) codes, level by level: c_l = argmin_k |r_l - e_k|² + price_k, r_(l+1) = r_l - e_(c_l)."""
        checked = check_vectors(vectors, self.width)
        books = [torch.from_numpy(one) for one in self.centroids]
        free = [None] * self.levels
        prices: Sequence[Tensor | None] = [torch.from_numpy(one) for one in self.prices] or free
        codes = np.empty((len(checked), self.levels), dtype=np.int32)
        for rows in chunks(len(checked)):
            residual = torch.from_numpy(checked[rows].copy())
            for level, (book, price) in enumerate(zip(books, prices, strict=True)):
                codes[rows, level] = assign_codes(residual, book, price)
                residual -= book[torch.from_numpy(codes[rows, level]).long()]
        return codes

    def reconstruct(self, codes: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """(N, D) the sum of the centroids that the first levels of `codes` name; further columns are ignored."""
        total = np.zeros((len(codes), self.width), dtype=np.float32)
        for level, centroids in enumerate(self.centroids[: codes.shape[1]]):
            total += centroids[codes[:, level]]
        return total

    def last_level_distances(
        self, vectors: NDArray[np.floating[Any]], codes: NDArray[np.integer[Any]]
    ) -> NDArray[np.float64]:
        """(N, K) squared distance, price included, of each vector to each centroid of the last level."""
        residual = (vectors - self.reconstruct(codes[:, : self.levels - 1])).astype(np.float64)
        last = self.centroids[-1].astype(np.float64)
        squares = np.square(residual).sum(axis=1)[:, None] + np.square(last).sum(axis=1)
        distances = np.asarray(squares - 2.0 * residual @ last.T)
        return distances + self.prices[-1] if self.prices else distances

    def relabelled(self, names: Sequence[NDArray[np.integer[Any]]]) -> Codebooks:
        """The same clusters, those of each level renamed: what had code c has code names[level][c]."""
        orders = [np.argsort(one) for one in names]
        return Codebooks(
            tuple(one[order] for one, order in zip(self.centroids, orders, strict=True)),
            tuple(one[order] for one, order in zip(self.prices, orders, strict=False)),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Centroids and prices by name."""
        named: dict[str, NDArray[Any]] = {f"codebook_{level}": one for level, one in enumerate(self.centroids)}
        return named | {f"prices_{level}": one for level, one in enumerate(self.prices)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], levels: int) -> Codebooks:
        """What `arrays` gave; raises `KeyError` or `ValueError` where it is not whole."""
        centroids = tuple(arrays[f"codebook_{level}"] for level in range(levels))
        prices = tuple(arrays[f"prices_{level}"] for level in range(levels)) if "prices_0" in arrays else ()
        for level, one in enumerate(centroids):
            if one.ndim != 2 or one.shape[1] != centroids[0].shape[1]:
                raise ValueError(f"codebook {level} has the shape {one.shape}")
            if prices and prices[level].shape != one.shape[:1]:
                raise ValueError(f"codebook {level} has {len(one)} centroids and {prices[level].shape} prices")
        return cls(centroids, prices)
