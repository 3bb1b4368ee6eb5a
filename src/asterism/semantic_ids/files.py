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
from asterism.semantic_ids.autoencoder import Autoencoder
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.quantizer import Quantizer


def save_semantic_ids(path: Path, table: SemanticIdTable, quantizer: Quantizer) -> None:
    """Write the table and the quantiser that made it to one safetensors file."""
    arrays: dict[str, NDArray[Any]] = {
        "codes": table.codes,
        "codebook_sizes": np.asarray(table.codebook_sizes, dtype=np.int64),
        **quantizer.arrays(),
    }
    save_file({name: np.ascontiguousarray(one) for name, one in arrays.items()}, path)


def load_semantic_ids(path: Path) -> tuple[SemanticIdTable, Quantizer]:
    """Read what `save_semantic_ids` wrote; raises `BundleError` where the file is missing, cut or inconsistent."""
    try:
        arrays = load_file(path)
        table = SemanticIdTable(arrays["codes"], arrays["codebook_sizes"].tolist())
        kind = Autoencoder if "scale" in arrays else Codebooks
        quantizer = kind.from_arrays(arrays, table.levels - 1)
        _check_codes(arrays, table)
    except FileNotFoundError:
        raise BundleError(f"{path}: there is no such file; `asterism sids build` writes it") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path} does not hold semantic ids ({error}); build it again") from error
    return table, quantizer


def save_readable_ids(path: Path, item_ids: Sequence[str], table: SemanticIdTable) -> None:
    """Write `{"item id": "<a_12><b_201><c_7><d_0>", …}` as JSON, for people and other programs."""
    readable = {one: format_semantic_id(codes) for one, codes in zip(item_ids, table.codes.tolist(), strict=True)}
    path.write_text(json.dumps(readable, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def _check_codes(arrays: dict[str, NDArray[Any]], table: SemanticIdTable) -> None:
    for level in range(table.levels - 1):
        if len(table) and int(table.codes[:, level].max()) >= len(arrays[f"codebook_{level}"]):
            raise ValueError(f"a code of level {level} has no centroid")
