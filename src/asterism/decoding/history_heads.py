"""The heads that look at the history alone and learn nothing by gradient: content and neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from asterism.config.run import DecodingConfig
from asterism.core.errors import ConfigError
from asterism.decoding.content import ContentHead
from asterism.decoding.neighbours import NeighbourHead
from asterism.models.policy import HistoryBatch


@dataclass(frozen=True, slots=True)
class HistoryHeads:
    """What stands beside the policy in the final order; a head without weight may be absent."""

    content: ContentHead | None = None
    neighbours: NeighbourHead | None = None

    def check(self, config: DecodingConfig) -> None:
        """Raise `ConfigError` if a head has weight and is not there."""
        if config.content_weight > 0 and self.content is None:
            raise ConfigError(
                "decoding.content_weight is above 0, but there are no item vectors; give them, or set it to 0"
            )
        if config.neighbour_weight > 0 and self.neighbours is None:
            raise ConfigError(
                "decoding.neighbour_weight is above 0, but no neighbours were learned; give them, or set it to 0"
            )

    def weighted(self, histories: HistoryBatch, items: Tensor, config: DecodingConfig) -> Tensor | None:
        """(B, C) the weighted sum for candidates `items` (B, C) long; None where no head has weight."""
        self.check(config)
        total: Tensor | None = None
        if self.content is not None and config.content_weight > 0:
            total = config.content_weight * self.content.scores(self.content.queries(histories), items)
        if self.neighbours is not None and config.neighbour_weight > 0:
            worth = config.neighbour_weight * self.neighbours.scores(histories, items)
            total = worth if total is None else total + worth
        return total


NO_HEADS = HistoryHeads()
