"""Semantic ids of a public catalogue: unique, well used, and little to tell apart at the end."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from asterism.config import EmbeddingConfig, SemanticIdConfig
from asterism.data.sequences import Sequences
from asterism.embeddings import ItemEmbedder
from asterism.semantic_ids import build_semantic_ids, report

ITEMS = Path(os.environ.get("ASTERISM_DATA", "data")) / "amazon-office-2014" / "items.parquet"


@pytest.mark.real_data
@pytest.mark.skipif(not ITEMS.is_file(), reason=f"{ITEMS} is absent; ASTERISM_DATA names a folder that holds it")
def test_office_items_get_well_used_codes() -> None:
    nothing = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int8))
    config = EmbeddingConfig(text_model="tfidf", width=64)
    _, vectors = ItemEmbedder.fit(pq.read_table(ITEMS), nothing, config)
    table, codebooks = build_semantic_ids(vectors, SemanticIdConfig(codes=128, iterations=5), seed=0)
    found = report(table, codebooks, vectors)
    assert found.items == 2420
    assert found.collision_rate_before < 0.3  # printer cartridges of one brand read alike
    assert all(level.used_codes == 128 and level.perplexity > 64 for level in found.levels[:3])
    errors = [level.relative_error or 0.0 for level in found.levels[:3]]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.5
