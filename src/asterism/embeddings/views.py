"""Items as they look whole and after the loss of one part: what modality dropout draws from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.embeddings.filling import References, without_part
from asterism.embeddings.fusion import FusionModel, Joined


@dataclass(frozen=True, slots=True)
class Views:
    """Centred joins of all items, and each part's block as it is filled in when the item has lost it."""

    whole: Tensor  # (N, Σr)
    filled: tuple[Tensor, ...]  # per part (N, r)
    columns: tuple[Tensor, ...]  # per part (r,) where its block lies
    present: Tensor  # (N, parts)

    @classmethod
    def of(cls, fusion: FusionModel, joined: Joined) -> Views:
        """Fill in every part of every item from the others, as for an item that never had it."""
        references = References(fusion.references, fusion.known)
        part_of, own = fusion.part_of_column, fusion.own_references(joined.present)
        columns = [np.flatnonzero(part_of == part) for part in range(len(fusion.parts))]
        filled = [
            without_part(joined.rows, joined.present, part, references, part_of, own) - fusion.mean[columns[part]]
            for part in range(len(fusion.parts))
        ]
        return cls(
            torch.from_numpy(joined.rows - fusion.mean),
            tuple(map(torch.from_numpy, filled)),
            tuple(map(torch.from_numpy, columns)),
            torch.from_numpy(joined.present),
        )

    def draw(self, items: NDArray[np.int64], rate: float, rng: np.random.Generator) -> Tensor:
        """(B, Σr) rows of which a share of `rate` has lost one part that it had."""
        picked = torch.from_numpy(items)
        rows = self.whole[picked]
        lost = rng.integers(len(self.filled), size=len(items))
        lost[rng.random(len(items)) >= rate] = -1
        for part, (block, columns) in enumerate(zip(self.filled, self.columns, strict=True)):
            without = torch.from_numpy(np.flatnonzero(lost == part))
            without = without[self.present[picked[without], part]]
            rows[without[:, None], columns] = block[picked[without]]
        return rows
