"""Optimised product quantisation: a learned rotation, then independent codebooks on slices of the vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.core.progress import track
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.kmeans import kmeans, lloyd, nearest_codes
from asterism.semantic_ids.quantizer import check_vectors

_ROUNDS = 8  # of turning the rotation towards the codebooks and back

Slices = list[NDArray[np.intp]]


def fit_product(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Codebooks:
    """Product codes under a learned rotation (Ge et al. 2013, OPQ), one slice a level, as ordinary codebooks.

    A slice's centroids, rotated back, are orthogonal to all other slices, so that the nearest one of a level is
    the nearest one of its slice. The mean of the vectors is part of the first level. A level
    without a dimension of its own, where there are more levels than dimensions, has one code.
    """
    checked = torch.from_numpy(check_vectors(vectors))
    generator = torch.Generator().manual_seed(seed)
    mean = checked.mean(dim=0)
    centred = checked - mean
    rotation, slices = _principal_slices(centred.numpy(), config.levels - 1)
    books = [
        kmeans((centred @ rotation[:, part]).contiguous(), config.codes, config.iterations, generator)
        for part in slices
        if len(part)
    ]
    for _ in track(range(_ROUNDS), "rotation"):
        rotated = centred @ rotation
        books = [lloyd(rotated[:, part], book, 1) for part, book in zip(slices, books, strict=False)]
        rebuilt = torch.zeros_like(rotated)
        for part, book in zip(slices, books, strict=False):
            rebuilt[:, part] = book[nearest_codes(rotated[:, part], book).codes]
        left, _, right = torch.linalg.svd((centred.T @ rebuilt).double(), full_matrices=False)
        rotation = (left @ right).float()
    levels = [(book @ rotation[:, part].T).numpy() for part, book in zip(slices, books, strict=False)]
    levels += [np.zeros((1, checked.shape[1]), dtype=np.float32)] * (config.levels - 1 - len(books))
    return Codebooks((levels[0] + mean.numpy(), *levels[1:]))


def _principal_slices(centred: NDArray[np.float32], count: int) -> tuple[torch.Tensor, Slices]:
    """Principal axes (D, D) and which of them each slice takes, so that the slices' variances multiply alike."""
    variances, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred / len(centred))
    order = np.argsort(-variances, kind="stable")
    sizes = [len(part) for part in np.array_split(order, count)]
    slices: list[list[int]] = [[] for _ in range(count)]
    volumes = [0.0] * count
    floor = max(float(variances.max()), 1e-12) * 1e-9
    for place in order.tolist():
        open_slices = [one for one in range(count) if len(slices[one]) < sizes[one]]
        chosen = min(open_slices, key=lambda one: volumes[one])
        slices[chosen].append(place)
        volumes[chosen] += float(np.log(max(float(variances[place]), floor) / floor))
    return torch.from_numpy(axes.astype(np.float32)), [np.array(part, dtype=np.intp) for part in slices]
