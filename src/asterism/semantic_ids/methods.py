"""The methods that turn vectors into codes, behind one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.semantic_ids.product import fit_product
from asterism.semantic_ids.quantizer import Quantizer
from asterism.semantic_ids.residual import fit_balanced_residual_kmeans, fit_residual_kmeans
from asterism.semantic_ids.rq_vae import fit_rq_kmeans_plus, fit_rq_vae
from asterism.semantic_ids.simhash import fit_simhash

METHODS: dict[str, Callable[[NDArray[np.floating[Any]], SemanticIdConfig, int], Quantizer]] = {
    "rq-kmeans": fit_residual_kmeans,
    "balanced-rq-kmeans": fit_balanced_residual_kmeans,
    "rq-vae": fit_rq_vae,
    "rq-kmeans+": fit_rq_kmeans_plus,
    "opq": fit_product,
    "simhash": fit_simhash,
}


def fit(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Quantizer:
    """Fit the configured method to (N, D) vectors; equal input and seed give equal codes.

    Raises `DataError` on vectors that are not a finite, non-empty table, and `TrainingError` where learning diverges.
    """
    return METHODS[config.method](vectors, config, seed)
