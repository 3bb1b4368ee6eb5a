"""Semantic ids survive the disk, and a broken file is told from a whole one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from safetensors.numpy import load_file, save_file

from asterism.config import SemanticIdConfig
from asterism.core.errors import BundleError
from asterism.semantic_ids import build_semantic_ids, load_semantic_ids, save_readable_ids, save_semantic_ids


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "semantic_ids.safetensors"
    table, codebooks = build_semantic_ids(np.eye(6), SemanticIdConfig(levels=3, codes=4), seed=0)
    save_semantic_ids(path, table, codebooks)
    return path


def test_what_is_saved_is_loaded(saved: Path) -> None:
    table, codebooks = build_semantic_ids(np.eye(6), SemanticIdConfig(levels=3, codes=4), seed=0)
    loaded_table, loaded_codebooks = load_semantic_ids(saved)
    assert_array_equal(loaded_table.codes, table.codes)
    assert loaded_table.codebook_sizes == table.codebook_sizes
    for name, original in codebooks.arrays().items():
        assert_array_equal(loaded_codebooks.arrays()[name], original)


def test_ids_are_readable(tmp_path: Path, saved: Path) -> None:
    table, _ = load_semantic_ids(saved)
    save_readable_ids(tmp_path / "ids.json", list("uvwxyz"), table)
    readable = json.loads((tmp_path / "ids.json").read_text())
    a, b, c = table.path_of(1)
    assert readable["v"] == f"<a_{a}><b_{b}><c_{c}>"
    assert list(readable) == list("uvwxyz")


def test_a_cut_file_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-9])
    with pytest.raises(BundleError, match="does not hold semantic ids"):
        load_semantic_ids(saved)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        load_semantic_ids(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("change", ["drop a codebook", "cut a codebook", "share a path"])
def test_an_inconsistent_file_is_refused(saved: Path, change: str) -> None:
    arrays = load_file(saved)
    if change == "drop a codebook":
        del arrays["codebook_1"]
    elif change == "cut a codebook":
        arrays["codebook_0"] = arrays["codebook_0"][:1].copy()
    else:
        arrays["codes"][0] = arrays["codes"][1]
    save_file(arrays, saved)
    with pytest.raises(BundleError, match="does not hold semantic ids"):
        load_semantic_ids(saved)


@pytest.mark.parametrize("missing", ["encoder.shortcut", "decoder.layers.0.bias", "mean", "codebook_0"])
def test_a_learned_file_that_is_not_whole_is_refused(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "semantic_ids.safetensors"
    config = SemanticIdConfig(method="rq-kmeans+", levels=3, codes=4, epochs=1)
    save_semantic_ids(path, *build_semantic_ids(np.eye(6), config, seed=0))
    arrays = load_file(path)
    del arrays[missing]
    save_file(arrays, path)
    with pytest.raises(BundleError, match="does not hold semantic ids"):
        load_semantic_ids(path)
