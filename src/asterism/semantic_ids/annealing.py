"""How an RQ-VAE learns: annealed schedules until the error no longer falls, the best epoch kept, collapses named."""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asterism.core.errors import TrainingError
from asterism.core.progress import track
from asterism.semantic_ids.autoencoder import Mlp
from asterism.semantic_ids.vector_quantization import LearnedCodebooks

_BATCH_ROWS = 512
_LEARNING_RATE = 3e-3  # at the start of a schedule; a cosine takes it to zero
_SCHEDULE_STEPS = 720  # of one schedule, where its epochs keep to the bounds below
_FEWEST_EPOCHS, _MOST_EPOCHS = 5, 150
_COMMITMENT = 0.25
_CLIPPED_NORM = 1.0
_REVIVING_SHARE = 0.8  # of a schedule: later a code that starts anew has no time to settle
_STALE_SHARE = 0.5  # of a whole schedule without a gain ends it
_STALE_EPOCHS = 10  # at least
_NOTHING_LEFT = 1e-6  # of the variance
_LEAST_GAIN = 1e-3  # relative: a smaller one does not count as better
_CONVERGED_FALL = 0.01  # relative, over the last fifth of a schedule: less is convergence
_MEASURED_ROWS = 16_384  # at most, drawn once
_COLLAPSED_PERPLEXITY = 0.05  # of a level's centroids; and less than two codes is one code


class CollapseWarning(UserWarning):
    """A level uses hardly any of its codes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The quality of the nearest codes of the measured rows."""

    error: float  # mean square; 1 is the variance of the vectors
    collision_rate: float  # 1 - distinct paths ÷ rows
    perplexities: tuple[float, ...]  # of each level: how many codes it uses, were all used alike

    def __str__(self) -> str:
        return f"error left {self.error:.4f}, collisions {self.collision_rate:.2%}"


@dataclass(slots=True)
class Learning:
    """Networks and codebooks as they learn, and what is known of their progress."""

    encoder: Mlp
    decoder: Mlp
    codebooks: LearnedCodebooks
    rows: Tensor  # (N, D) standardised
    generator: torch.Generator
    modules: nn.ModuleList = field(init=False)
    measured_rows: Tensor = field(init=False)
    best: Measured = field(init=False)
    state: dict[str, Any] = field(init=False)  # of the modules when they were best

    def __post_init__(self) -> None:
        self.modules = nn.ModuleList([self.encoder, self.decoder, self.codebooks])
        drawn = torch.randperm(len(self.rows), generator=self.generator)[:_MEASURED_ROWS]
        self.measured_rows = self.rows[drawn.sort().values]
        self.best = self._measure()
        self.state = copy.deepcopy(self.modules.state_dict())

    @property
    def schedule_epochs(self) -> int:
        """Epochs of a whole schedule."""
        epochs = math.ceil(_SCHEDULE_STEPS / self._epoch_steps)
        return min(max(_FEWEST_EPOCHS, epochs), _MOST_EPOCHS)

    def anneal(self, epochs: int, name: str) -> list[float]:
        """Train for one schedule; the smallest error so far, before its first epoch and after each."""
        parameters = [one for one in self.modules.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * self._epoch_steps)
        errors = [self.best.error]
        stale = 0
        for epoch in track(range(epochs), f"{name} epochs", status=lambda: str(self.best)):
            for batch in self._batches():
                self._step(batch, parameters, optimizer)
                schedule.step()
            if epoch < _REVIVING_SHARE * epochs:
                self.codebooks.revive()
            stale = 0 if self._note() < errors[-1] * (1 - _LEAST_GAIN) else stale + 1
            errors.append(self.best.error)
            if stale >= max(_STALE_EPOCHS, _STALE_SHARE * self.schedule_epochs) or errors[-1] < _NOTHING_LEFT:
                break
        return errors

    def keep_best(self) -> None:
        """Put back what the modules were when they were best."""
        self.modules.load_state_dict(self.state)

    @property
    def _epoch_steps(self) -> int:
        return math.ceil(len(self.rows) / _BATCH_ROWS)

    def _note(self) -> float:
        measured = self._measure()
        if measured.error < self.best.error:
            self.best = measured
            self.state = copy.deepcopy(self.modules.state_dict())
        return measured.error

    def _step(self, batch: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        quantised = self.codebooks(self.encoder(batch))
        error = (self.decoder(quantised.straight_through) - batch).square().mean()
        loss = error + _COMMITMENT * quantised.commitment + quantised.codebook_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, _CLIPPED_NORM)
        _check_finite(norm, "gradient")
        optimizer.step()
        self.codebooks.update(quantised)

    def _measure(self) -> Measured:
        frozen = self.codebooks.frozen()
        with torch.inference_mode():
            latents = self.encoder(self.measured_rows)
            _check_finite(latents, "latent space")
            codes = frozen.assign(latents.numpy())
            rebuilt = self.decoder(torch.from_numpy(frozen.reconstruct(codes)))
            error = (rebuilt - self.measured_rows).square().mean()
            _check_finite(error, "error")
        collision_rate = 1 - len(np.unique(codes, axis=0)) / len(codes)
        return Measured(float(error), collision_rate, tuple(_perplexity(column) for column in codes.T))

    def _batches(self) -> Iterator[Tensor]:
        for picked in torch.split(torch.randperm(len(self.rows), generator=self.generator), _BATCH_ROWS):
            yield self.rows[picked]


def learn(learning: Learning, name: str, most_epochs: int) -> None:
    """Anneal, from a high learning rate anew, until a schedule converges or `most_epochs` have passed.

    A whole schedule has converged when its last fifth took less than 1 % off the smallest error. The best epoch is
    kept; a line on stderr says why it ended, and a `CollapseWarning` names each level that uses hardly any codes.
    """
    done, converged = 0, False
    while done < most_epochs and not converged:
        planned = min(learning.schedule_epochs, most_epochs - done)
        errors = learning.anneal(planned, name)
        run = len(errors) - 1
        done += run
        # A schedule that the ceiling cut stands still at its end too, however much a whole one would gain.
        settled = run == learning.schedule_epochs and last_fall(errors, 5) < _CONVERGED_FALL
        converged = settled or run < planned
    learning.keep_best()
    ending = f"converged after {done} epochs" if converged else _ceiling(done, errors)
    print(f"{name}: {ending}; {learning.best}", file=sys.stderr)
    _warn_of_collapses(learning, name)


def last_fall(errors: list[float], part: int) -> float:
    """The share of the error that the last 1/`part` of the epochs took off."""
    before = errors[-1 - math.ceil((len(errors) - 1) / part)]
    return 1 - errors[-1] / before if before > 0 else 0.0


def _ceiling(epochs: int, errors: list[float]) -> str:
    pace = 1 - (1 - last_fall(errors, 2)) ** (10 / math.ceil((len(errors) - 1) / 2))
    return (
        f"reached the ceiling of {epochs} epochs while the error still fell by {pace:.1%} per ten epochs; "
        "raise semantic_ids.epochs"
    )


def _warn_of_collapses(learning: Learning, name: str) -> None:
    for place, (used, centroids) in enumerate(zip(learning.best.perplexities, learning.codebooks.levels, strict=True)):
        usable = min(len(centroids), len(learning.measured_rows))
        if usable > 2 and used < max(2.0, _COLLAPSED_PERPLEXITY * usable):
            warnings.warn(
                f"{name}: level {chr(ord('a') + place)} has collapsed: it uses its {len(centroids)} codes as if there "
                f"were {used:.1f}; use fewer codes, another method, or vectors that differ more",
                CollapseWarning,
                stacklevel=3,
            )


def _perplexity(codes: NDArray[np.int32]) -> float:
    counts = np.unique(codes, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _check_finite(numbers: Tensor, name: str) -> None:
    if not bool(torch.isfinite(numbers).all()):
        raise TrainingError(
            f"the RQ-VAE's {name} is no longer finite; look for item vectors of extreme length, "
            "or choose a method without training such as rq-kmeans"
        )
