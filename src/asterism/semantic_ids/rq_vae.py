"""RQ-VAE and RQ-KMeans+: codebooks that are learned together with an encoder and a decoder."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config import SemanticIdConfig
from asterism.core.errors import TrainingError
from asterism.core.progress import track
from asterism.semantic_ids.autoencoder import Autoencoder, Mlp
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.quantizer import check_vectors
from asterism.semantic_ids.residual import fit_residual_kmeans
from asterism.semantic_ids.vector_quantization import LearnedCodebooks

_HIDDEN = (256, 128)
_LATENT_WIDTH = 64  # at most; never wider than the vectors
_BATCH_ROWS = 512
_WARMUP_STEPS = 250  # of the bare autoencoder, before its latents seed the codebooks
_LEARNING_RATE = 1e-3
_COMMITMENT = 0.25
_CLIPPED_NORM = 1.0
_PATIENCE_STEPS = 250  # without a gain, and at least ten epochs
_LEAST_GAIN = 1e-3  # relative: a smaller one does not count as better


@dataclass(frozen=True, slots=True)
class Standardised:
    """Vectors whose mean is zero and whose mean square is one, and the way back."""

    rows: Tensor  # (N, D)
    mean: NDArray[np.float32]  # (D,)
    scale: float


@dataclass(slots=True)
class Progress:
    """The best state so far, and how long ago it was reached."""

    state: dict[str, Any]
    error: float = math.inf
    stale_epochs: int = 0
    patience_epochs: int = 10


def fit_rq_vae(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Autoencoder:
    """Fit an RQ-VAE (Lee et al. 2022; Rajput et al. 2023, TIGER) to (N, D) vectors.

    The networks start as a bare autoencoder; k-means on its latents seeds the codebooks; then all is trained until the
    reconstruction from codes gains no more, or for `config.epochs`, and the best epoch is kept. Raises
    `DataError` on broken vectors and `TrainingError` where a number stops being finite.
    """
    data = _standardise(vectors)
    generator = torch.Generator().manual_seed(seed)
    latent = min(_LATENT_WIDTH, data.rows.shape[1])
    widths = (data.rows.shape[1], *_HIDDEN, latent)
    encoder = Mlp(widths, shortcut=False, generator=generator)
    decoder = Mlp(widths[::-1], shortcut=False, generator=generator)
    _warm_up(encoder, decoder, data.rows, generator)
    with torch.inference_mode():
        latents = encoder(data.rows)
    seeds = fit_residual_kmeans(latents.numpy(), config, seed)
    return _train(encoder, decoder, seeds, data, config, generator)


def fit_rq_kmeans_plus(vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int) -> Autoencoder:
    """Fit an RQ-VAE whose networks add to the identity and whose codebooks start as those of residual k-means.

    Before the first step it is residual k-means, and the best epoch is kept, so it never leaves a larger error.
    Raises as `fit_rq_vae` does.
    """
    data = _standardise(vectors)
    generator = torch.Generator().manual_seed(seed)
    width = data.rows.shape[1]
    encoder, decoder = (Mlp((width, *_HIDDEN, width), shortcut=True, generator=generator) for _ in range(2))
    return _train(encoder, decoder, fit_residual_kmeans(data.rows.numpy(), config, seed), data, config, generator)


def _standardise(vectors: NDArray[np.floating[Any]]) -> Standardised:
    checked = check_vectors(vectors)
    mean = checked.mean(axis=0)
    spread = float(np.sqrt(np.square((checked - mean).astype(np.float64)).mean()))
    # Rounding alone spreads constant vectors; to blow that up to one would train on noise.
    scale = spread if spread > 1e-6 * float(np.abs(checked).max()) else 1.0
    return Standardised(torch.from_numpy((checked - mean) / np.float32(scale)), mean, scale)


def _warm_up(encoder: Mlp, decoder: Mlp, rows: Tensor, generator: torch.Generator) -> None:
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE)
    for _ in track(range(_epochs_of(_WARMUP_STEPS, rows)), "autoencoder"):
        for batch in _batches(rows, generator):
            loss = (decoder(encoder(batch)) - batch).square().mean()
            _step(loss, parameters, optimizer)


def _train(
    encoder: Mlp,
    decoder: Mlp,
    seeds: Codebooks,
    data: Standardised,
    config: SemanticIdConfig,
    generator: torch.Generator,
) -> Autoencoder:
    codebooks = LearnedCodebooks(seeds, moving_average=config.codebook_update == "ema", generator=generator)
    modules = torch.nn.ModuleList([encoder, decoder, codebooks])
    parameters = [one for one in modules.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE)
    error_left, collision_rate = _measure(encoder, decoder, codebooks, data.rows)
    patience = max(10, _epochs_of(_PATIENCE_STEPS, data.rows))
    progress = Progress(copy.deepcopy(modules.state_dict()), error_left, patience_epochs=patience)
    for epoch in track(range(config.epochs), "rq-vae epochs"):
        for batch in _batches(data.rows, generator):
            latents = encoder(batch)
            quantised = codebooks(latents)
            error = (decoder(quantised.straight_through) - batch).square().mean()
            loss = error + _COMMITMENT * quantised.commitment + quantised.codebook_loss
            _step(loss, parameters, optimizer)
            codebooks.update(quantised)
        codebooks.revive()
        error_left, collision_rate = _measure(encoder, decoder, codebooks, data.rows)
        if _is_over(progress, modules, error_left):
            print(_summary(epoch + 1, progress.error, collision_rate), file=sys.stderr)
            break
    modules.load_state_dict(progress.state)
    return Autoencoder(encoder, decoder, codebooks.frozen(), data.mean, data.scale)


def _is_over(progress: Progress, modules: torch.nn.ModuleList, error: float) -> bool:
    """Note an epoch's error; whether the patience has run out."""
    gained = error < progress.error * (1 - _LEAST_GAIN)
    progress.stale_epochs = 0 if gained else progress.stale_epochs + 1
    if error < progress.error:
        progress.error = error
        progress.state = copy.deepcopy(modules.state_dict())
    return progress.stale_epochs >= progress.patience_epochs


def _measure(encoder: Mlp, decoder: Mlp, codebooks: LearnedCodebooks, rows: Tensor) -> tuple[float, float]:
    """Mean squared error of all rows rebuilt from their codes, and the share of rows whose path is not their own."""
    frozen = codebooks.frozen()
    with torch.inference_mode():
        latents = encoder(rows)
        _check_finite(latents, "latent space")
        codes = frozen.assign(latents.numpy())
        error = (decoder(torch.from_numpy(frozen.reconstruct(codes))) - rows).square().mean()
        _check_finite(error, "error")
    return float(error), 1 - len(np.unique(codes, axis=0)) / len(codes)


def _step(loss: Tensor, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(parameters, _CLIPPED_NORM)
    _check_finite(norm, "gradient")
    optimizer.step()


def _check_finite(numbers: Tensor, name: str) -> None:
    if not bool(torch.isfinite(numbers).all()):
        raise TrainingError(
            f"the RQ-VAE's {name} is no longer finite; look for item vectors of extreme length, "
            "or choose a method without training such as rq-kmeans"
        )


def _epochs_of(steps: int, rows: Tensor) -> int:
    return math.ceil(steps / math.ceil(len(rows) / _BATCH_ROWS))


def _batches(rows: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    for picked in torch.split(torch.randperm(len(rows), generator=generator), _BATCH_ROWS):
        yield rows[picked]


def _summary(epochs: int, error: float, collision_rate: float) -> str:
    return f"rq-vae: converged after {epochs} epochs; error left {error:.4f}, collisions {collision_rate:.2%}"
