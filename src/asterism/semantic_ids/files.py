"""Semantic ids on disk: codes and codebooks in one safetensors file, readable ids as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from asterism.core.errors import BundleError
from asterism.core.semantic_id import SemanticIdTable, format_semantic_id
from asterism.semantic_ids.residual import Codebooks

SEMANTIC_IDS_FILE = "semantic_ids.safetensors"


def save_semantic_ids(path: Path, table: SemanticIdTable, codebooks: Codebooks) -> None:
    """Write the table and its codebooks to one safetensors file."""
    arrays: dict[str, NDArray[Any]] = {
        "codes": table.codes,
        "codebook_sizes": np.asarray(table.codebook_sizes, dtype=np.int64),
        **{_level_key(level): np.ascontiguousarray(centroids) for level, centroids in enumerate(codebooks.levels)},
    }
    save_file(arrays, path)


def load_semantic_ids(path: Path) -> tuple[SemanticIdTable, Codebooks]:
    """Read what `save_semantic_ids` wrote; raises `BundleError` where the file is missing, cut or inconsistent."""
    try:
        arrays = load_file(path)
        table = SemanticIdTable(arrays["codes"], arrays["codebook_sizes"].tolist())
        levels = tuple(arrays[_level_key(level)] for level in range(table.levels - 1))
        _check_levels(levels, table)
    except FileNotFoundError:
        raise BundleError(f"{path}: there is no such file; `asterism sids build` writes it") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path} does not hold semantic ids ({error}); build it again") from error
    return table, Codebooks(levels)


def save_readable_ids(path: Path, item_ids: Sequence[str], table: SemanticIdTable) -> None:
    """Write `{"item id": "<a_12><b_201><c_7><d_0>", …}` as JSON, for people and other programs."""
    readable = {one: format_semantic_id(codes) for one, codes in zip(item_ids, table.codes.tolist(), strict=True)}
    path.write_text(json.dumps(readable, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def _level_key(level: int) -> str:
    return f"codebook_{level}"


def _check_levels(levels: tuple[NDArray[np.float32], ...], table: SemanticIdTable) -> None:
    for level, centroids in enumerate(levels):
        if centroids.ndim != 2 or centroids.shape[1] != levels[0].shape[1]:
            raise ValueError(f"codebook {level} has the shape {centroids.shape}")
        if len(table) and int(table.codes[:, level].max()) >= len(centroids):
            raise ValueError(f"a code of level {level} has no centroid")
