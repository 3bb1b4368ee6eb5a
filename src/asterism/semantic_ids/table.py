"""From vectors to unique semantic ids, and room in a finished table for items that come later."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.semantic_ids.collisions import deduplication_codes, reassign_colliding
from asterism.semantic_ids.methods import fit
from asterism.semantic_ids.quantizer import Quantizer
from asterism.semantic_ids.relabelling import matching_deduplication
from asterism.semantic_ids.warm_start import fit_like


def build_semantic_ids(
    vectors: NDArray[np.floating[Any]],
    config: SemanticIdConfig,
    seed: int,
    earlier: NDArray[np.int32] | None = None,
) -> tuple[SemanticIdTable, Quantizer]:
    """Fit the configured method to (N, D) item vectors and give every item its own semantic id.

    With `config.reassign_colliding` items that share all codes first move to free codes of the last fitted level.
    The de-duplication level tells apart what still shares all codes above it: the first (by index) keeps 0.
    It has `config.codes` codes, or as many as the largest group needs. With the (N, levels) `earlier` ids of the items
    (`earlier_ids`) as many items as possible keep theirs. Raises `DataError` on broken vectors.
    """
    quantizer = fit(vectors, config, seed) if earlier is None else fit_like(vectors, config, seed, earlier)
    paths = quantizer.assign(vectors)
    if config.reassign_colliding:
        paths = reassign_colliding(quantizer, vectors, paths)
    return unique_table(paths, config.codes, earlier), quantizer


def unique_table(paths: NDArray[np.int32], codes: int, earlier: NDArray[np.int32] | None = None) -> SemanticIdTable:
    """The table of (N, levels - 1) paths with a de-duplication level behind; `codes` is the size of each level.

    Items whose path is that of their `earlier` id keep its de-duplication code.
    """
    last = deduplication_codes(paths) if earlier is None else matching_deduplication(paths, earlier)
    sizes = (codes,) * paths.shape[1] + (max(codes, int(last.max()) + 1),)
    return SemanticIdTable(np.column_stack([paths, last]), sizes)


def extend(table: SemanticIdTable, codes: NDArray[np.int32]) -> SemanticIdTable:
    """The table with more items behind its own; raises `ValueError` where an id is taken."""
    return SemanticIdTable(np.concatenate([table.codes, codes]), table.codebook_sizes)
