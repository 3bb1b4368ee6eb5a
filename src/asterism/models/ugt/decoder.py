"""The light code decoder: a semantic id, level by level, from the user's state alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asterism.models.ugt.dropout import Dropout
from asterism.models.ugt.items import small_embedding


class CodeDecoder(nn.Module):
    """Scores the codes of a level given the state and the codes before it.

    The history is not looked at again, so the cost of a beam does not grow with it.
    """

    def __init__(self, width: int, codebook_sizes: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.prefix_vectors = nn.ModuleList(small_embedding(size, width) for size in codebook_sizes[:-1])
        self.mixers = nn.ModuleList(_mixer(width, dropout) for _ in codebook_sizes)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in codebook_sizes)

    def forward(self, state: Tensor, prefix: Tensor) -> Tensor:
        """(..., D) states and (..., l) codes of the first l levels → (..., codes of level l) logits."""
        level = prefix.shape[-1]
        hidden = state
        for before in range(level):
            hidden = hidden + self.prefix_vectors[before](prefix[..., before])
        logits: Tensor = self.heads[level](hidden + self.mixers[level](hidden))
        return logits

    def teacher_forced(self, state: Tensor, codes: Tensor) -> list[Tensor]:
        """(P, D) states, (P, levels) codes → per level (P, codes of that level) logits, given the true codes before."""
        hidden, logits = state, []
        for level, (mixer, head) in enumerate(zip(self.mixers, self.heads, strict=True)):
            if level:
                hidden = hidden + self.prefix_vectors[level - 1](codes[:, level - 1])
            logits.append(head(hidden + mixer(hidden)))
        return logits

    def log_probs(self, state: Tensor, prefix: Tensor) -> Tensor:
        """As `forward`, normalised over the level's codes."""
        return torch.log_softmax(self(state, prefix).float(), dim=-1)


def _mixer(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), Dropout(dropout), nn.Linear(2 * width, width)
    )
