"""Codebooks while they are learned: assignment, moving averages or gradients, and codes brought back to life."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.kmeans import nearest_codes
from asterism.semantic_ids.sinkhorn import sinkhorn_plan

_DECAY = 0.99
_DEAD_SHARE = 0.05  # of the mean use of a code: one that is used less starts anew
_SINKHORN_TEMPERATURE = 0.05  # as a share of the mean cost
_SINKHORN_PASSES = 10


@dataclass(frozen=True, slots=True)
class Quantised:
    """A batch of latents as codes."""

    straight_through: Tensor  # (B, d) sums of centroids whose gradient is the latents'
    commitment: Tensor  # () draws latents to their centroids
    codebook_loss: Tensor  # () draws centroids to their latents; zero under moving averages
    residuals: tuple[Tensor, ...]  # each (B, d), what a level quantised
    codes: tuple[Tensor, ...]  # each (B,)


class LearnedCodebooks(nn.Module):
    """The levels' centroids with the moving averages that update them."""

    def __init__(self, seeds: Codebooks, *, moving_average: bool, generator: torch.Generator) -> None:
        """Start from fitted codebooks; the generator draws the rows at which dead codes start anew."""
        super().__init__()
        self.moving_average = moving_average
        self.generator = generator
        self.levels = nn.ParameterList(
            nn.Parameter(torch.from_numpy(one.copy()), requires_grad=not moving_average) for one in seeds.centroids
        )
        # As if each centroid had been seen once: the first batches then move it as an average would.
        self.uses = [torch.ones(len(one)) for one in seeds.centroids]
        self.sums = [torch.from_numpy(one.copy()) for one in seeds.centroids]
        self.latest: tuple[Tensor, ...] = ()

    def forward(self, latents: Tensor) -> Quantised:
        """Quantise (B, d) latents level by level (Lee et al. 2022, eq. 2-3), each batch balanced by Sinkhorn."""
        residual, total = latents, torch.zeros_like(latents)
        commitment = codebook_loss = latents.new_zeros(())
        residuals, picked = [], []
        for centroids in self.levels:
            codes = _balanced_codes(residual.detach(), centroids.detach())
            chosen = centroids[codes]
            commitment = commitment + (residual - chosen.detach()).square().mean()
            if not self.moving_average:
                codebook_loss = codebook_loss + (residual.detach() - chosen).square().mean()
            residuals.append(residual.detach())
            picked.append(codes)
            residual = residual - chosen.detach()
            total = total + chosen.detach()
        passed = latents + (total - latents).detach()
        return Quantised(passed, commitment, codebook_loss, tuple(residuals), tuple(picked))

    @torch.no_grad()
    def update(self, batch: Quantised) -> None:
        """Count the batch's codes and, under moving averages (van den Oord et al. 2017, A.1), move their centroids."""
        self.latest = batch.residuals
        for place, (residual, codes) in enumerate(zip(batch.residuals, batch.codes, strict=True)):
            counts = torch.bincount(codes, minlength=len(self.uses[place])).float()
            self.uses[place].mul_(_DECAY).add_(counts, alpha=1 - _DECAY)
            self.sums[place].mul_(_DECAY).index_add_(0, codes, residual, alpha=1 - _DECAY)
            if self.moving_average:
                self.levels[place].copy_(self.sums[place] / self.uses[place].clamp_min(1e-8)[:, None])

    @torch.no_grad()
    def revive(self) -> None:
        """Start codes that are hardly used anew at rows of the latest batch."""
        for place, residual in enumerate(self.latest):
            mean_use = float(self.uses[place].mean())
            dead = (self.uses[place] < _DEAD_SHARE * mean_use).nonzero()[:, 0]
            rows = torch.randint(len(residual), (len(dead),), generator=self.generator)
            self.levels[place][dead] = residual[rows]
            self.uses[place][dead] = mean_use
            self.sums[place][dead] = residual[rows] * mean_use

    def frozen(self) -> Codebooks:
        """The codebooks as they stand."""
        return Codebooks(tuple(one.detach().clone().numpy() for one in self.levels))


def _balanced_codes(residual: Tensor, centroids: Tensor) -> Tensor:
    """(B,) codes of (B, d) rows, each code used about alike; nearest ones were used up to ten times the mean."""
    costs = torch.cdist(residual, centroids).square()
    scale = float(costs.mean())
    if scale == 0.0 or len(centroids) == 1:
        return nearest_codes(residual, centroids).codes
    shares = torch.full((len(centroids),), len(residual) / len(centroids))
    plan, _ = sinkhorn_plan(costs, shares, _SINKHORN_TEMPERATURE * scale, _SINKHORN_PASSES)
    return plan.argmax(dim=1)
