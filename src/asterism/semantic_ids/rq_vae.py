"""RQ-VAE and RQ-KMeans+: codebooks that are learned together with an encoder and a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config import SemanticIdConfig
from asterism.semantic_ids.annealing import Learning, learn
from asterism.semantic_ids.autoencoder import Autoencoder, Mlp
from asterism.semantic_ids.quantizer import check_vectors
from asterism.semantic_ids.residual import fit_residual_kmeans
from asterism.semantic_ids.vector_quantization import LearnedCodebooks

_HIDDEN = (512,)
_LATENT_WIDTH = 192  # of an RQ-VAE, at most; never wider than the vectors
_SEEDING_ROWS_PER_CODE = 128  # k-means that seeds the codebooks looks at so many rows a code


@dataclass(frozen=True, slots=True)
class Standardised:
    """Vectors whose mean is zero and whose mean square is one, and the way back."""

    rows: Tensor  # (N, D)
    mean: NDArray[np.float32]  # (D,)
    scale: float


def fit_rq_vae(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Autoencoder:
    """Fit an RQ-VAE (Lee et al. 2022; Rajput et al. 2023, TIGER) to (N, D) vectors.

    The networks start as the best linear autoencoder, the principal components; k-means on a sample of its latents
    seeds the codebooks; then all is trained as `learn` says. Raises `DataError` on broken vectors and
    `TrainingError` where a number stops being finite.
    """
    data = _standardise(vectors)
    return _fit(data, _principal_components(data.rows, _LATENT_WIDTH), config, seed)


def fit_rq_kmeans_plus(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Autoencoder:
    """Fit an RQ-VAE whose networks start as the identity and whose codebooks start as those of residual k-means.

    Before the first step it is residual k-means, and the best epoch is kept, so it never leaves a larger error.
    Raises as `fit_rq_vae` does.
    """
    data = _standardise(vectors)
    return _fit(data, torch.eye(data.rows.shape[1]), config, seed)


def _fit(data: Standardised, components: Tensor, config: SemanticIdConfig, seed: int) -> Autoencoder:
    generator = torch.Generator().manual_seed(seed)
    encoder = Mlp(components, _HIDDEN, generator)
    decoder = Mlp(components.T, _HIDDEN[::-1], generator)
    seeds = fit_residual_kmeans(_seeding_rows(data.rows, components, config, generator), config, seed)
    codebooks = LearnedCodebooks(seeds, moving_average=config.codebook_update == "ema", generator=generator)
    learn(Learning(encoder, decoder, codebooks, data.rows, generator), config.method, config.epochs)
    return Autoencoder(encoder, decoder, codebooks.frozen(), data.mean, data.scale)


def _standardise(vectors: NDArray[np.floating[Any]]) -> Standardised:
    checked = check_vectors(vectors)
    mean = checked.mean(axis=0)
    spread = float(np.sqrt(np.square((checked - mean).astype(np.float64)).mean()))
    # Rounding alone spreads constant vectors; to blow that up to one would train on noise.
    scale = spread if spread > 1e-6 * float(np.abs(checked).max()) else 1.0
    return Standardised(torch.from_numpy((checked - mean) / np.float32(scale)), mean, scale)


def _principal_components(rows: Tensor, width: int) -> Tensor:
    """(≤ width, D) the orthonormal directions of most variance, largest first."""
    directions: Tensor = torch.linalg.eigh((rows.T @ rows).double()).eigenvectors
    return directions.flip(1)[:, :width].T.float().contiguous()


def _seeding_rows(
    rows: Tensor, components: Tensor, config: SemanticIdConfig, generator: torch.Generator
) -> NDArray[np.float32]:
    sample = rows
    if len(rows) > _SEEDING_ROWS_PER_CODE * config.codes:
        drawn = torch.randperm(len(rows), generator=generator)[: _SEEDING_ROWS_PER_CODE * config.codes]
        sample = rows[drawn.sort().values]
    return (sample @ components.T).numpy()
