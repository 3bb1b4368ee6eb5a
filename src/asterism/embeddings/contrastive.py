"""Trains the learned fusion: items consumed together are drawn together, the geometry of their content is kept."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, silu

from asterism.core.errors import DataError, TrainingError
from asterism.core.progress import track
from asterism.data.sequences import Sequences
from asterism.embeddings.cooccurrence import cooccurrence_counts
from asterism.embeddings.fusion import FusionModel, Joined
from asterism.embeddings.learned_fusion import LearnedFusion
from asterism.embeddings.pairs import Drawn, Pairs, false_negatives, log_popularity
from asterism.embeddings.views import Views

HIDDEN: Final = 256
BATCH_PAIRS: Final = 1024
TEMPERATURE: Final = 0.1
GEOMETRY_WEIGHT: Final = 1.0
DROPOUT: Final = 0.5  # share of drawn items that lose a part
LEARNING_RATE: Final = 1e-3
WEIGHT_DECAY: Final = 0.01
STEPS: Final = 25  # a round; the held-out pairs are looked at after each
MAX_ROUNDS: Final = 20
PATIENCE: Final = 2  # rounds that make the held-out loss fall by less than `_WORTH` of itself
_WORTH: Final = 0.005
_FIRST_SCALE: Final = 0.25
_HELD_OUT_BATCHES: Final = 4


class Weights(NamedTuple):
    """What is learned; `LearnedFusion` says how it is applied."""

    first: Tensor  # (Σr, hidden)
    bias: Tensor  # (hidden,)
    second: Tensor  # (hidden, width), zeros at the start: training begins at the linear fusion

    def move(self, centred: Tensor, linear: Tensor) -> Tensor:
        """(B, width) unit rows."""
        return normalize(linear + silu(centred @ self.first + self.bias) @ self.second, dim=1)


class _Batch(NamedTuple):
    first: Tensor  # (B, Σr) centred joins, some with a part lost
    second: Tensor
    whole: tuple[Tensor, Tensor]  # (B, Σr) the same items with all their parts
    log_popularity: tuple[Tensor, Tensor]  # (B,)
    masked: Tensor  # (B, B) no negatives


class _World(NamedTuple):
    views: Views
    axes: Tensor  # (Σr, width) of the linear fusion
    counts: sp.csr_array
    log_popularity: Tensor

    def batch(self, drawn: Drawn, rng: np.random.Generator) -> _Batch:
        first, second = (self.views.draw(items, DROPOUT, rng) for items in drawn)
        whole = self.views.whole[drawn.first], self.views.whole[drawn.second]
        popularity = self.log_popularity[drawn.first], self.log_popularity[drawn.second]
        return _Batch(first, second, whole, popularity, torch.from_numpy(false_negatives(drawn, self.counts)))

    def loss(self, weights: Weights, batch: _Batch) -> Tensor:
        first, second = (weights.move(one, one @ self.axes) for one in (batch.first, batch.second))
        content = [normalize(one @ self.axes, dim=1) for one in batch.whole]
        geometry = geometry_loss(first @ second.T, content[0] @ content[1].T)
        return info_nce(first, second, batch.masked, batch.log_popularity) + GEOMETRY_WEIGHT * geometry


def info_nce(first: Tensor, second: Tensor, masked: Tensor, popularity: tuple[Tensor, Tensor]) -> Tensor:
    """Symmetric InfoNCE over (B, d) unit rows whose i-th rows belong together; the rest of the batch are negatives.

    van den Oord et al. 2018, eq. 4, both ways round as in CLIP (Radford et al. 2021). `popularity` holds the log
    probabilities (B,) with which the items were drawn; they are taken off the scores (logQ, Yi et al. 2019, eq. 3).
    Where `masked` (B, B) the pair is no negative.
    """
    scores = first @ second.T / TEMPERATURE
    positives = torch.arange(len(first))
    forth = (scores - popularity[1]).masked_fill(masked, -torch.inf)
    back = (scores.T - popularity[0]).masked_fill(masked.T, -torch.inf)
    return (cross_entropy(forth, positives) + cross_entropy(back, positives)) / 2


def geometry_loss(cosines: Tensor, content: Tensor) -> Tensor:
    """Mean squared change of the (B, B) cosines against those of the whole items' linear fusion."""
    return torch.square(cosines - content).mean()


def fit_learned_fusion(fusion: FusionModel, joined: Joined, train: Sequences, seed: int) -> LearnedFusion:
    """Learn from the pairs of `train` (training events only); row i of `joined` is the item that `train` calls i.

    Ends when the loss on held-out pairs of the same events no longer falls. Raises `DataError` where no two items
    stand near each other, `TrainingError` where the loss is no longer a number.
    """
    counts = cooccurrence_counts(train, len(joined.rows))
    pairs = Pairs.of(counts, np.asarray(joined.present.any(axis=1)))
    if len(pairs) == 0:
        raise DataError(
            "no two items stand near each other in a training sequence, so a contrastive fusion has nothing to "
            'learn from; set `fusion = "linear"`'
        )
    axes = np.pad(fusion.axes, ((0, 0), (0, fusion.width - fusion.axes.shape[1])))
    world = _World(Views.of(fusion, joined), torch.from_numpy(axes), counts, torch.from_numpy(log_popularity(counts)))
    learned = _train(world, pairs, seed)
    return LearnedFusion(*(one.detach().numpy().copy() for one in learned))


def _train(world: _World, pairs: Pairs, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    learning, held_out = pairs.split()
    learning, held_out = (one if len(one) else pairs for one in (learning, held_out))  # a handful of pairs
    checks = [world.batch(held_out.draw(min(BATCH_PAIRS, len(held_out)), rng), rng) for _ in range(_HELD_OUT_BATCHES)]
    weights = _first_weights(world, seed)
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    kept, best, idle = weights, np.inf, 0
    for number in track(range(MAX_ROUNDS), "learning the fusion"):
        for _ in range(STEPS):
            batch = world.batch(learning.draw(min(BATCH_PAIRS, len(learning)), rng), rng)
            optimiser.zero_grad()
            world.loss(weights, batch).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            loss = float(np.mean([float(world.loss(weights, check)) for check in checks]))
        if not np.isfinite(loss):
            raise TrainingError(
                f'the contrastive fusion broke down in round {number + 1} (loss {loss}); set `fusion = "linear"`'
            )
        idle = 0 if loss < best * (1 - _WORTH) else idle + 1
        if loss < best:
            best, kept = loss, Weights(*(one.detach().clone() for one in weights))
        if idle >= PATIENCE:
            break
    return kept


def _first_weights(world: _World, seed: int) -> Weights:
    """Scaled so that what enters the hidden layer has a standard deviation of about `_FIRST_SCALE`."""
    generator = torch.Generator().manual_seed(seed)
    inputs, width = world.axes.shape
    length = torch.linalg.vector_norm(world.views.whole, dim=1).square().mean().sqrt().clamp_min(1e-6)
    first = torch.randn(inputs, HIDDEN, generator=generator) * (_FIRST_SCALE / length)
    weights = Weights(first, torch.zeros(HIDDEN), torch.zeros(HIDDEN, width))
    for one in weights:
        one.requires_grad_()
    return weights
