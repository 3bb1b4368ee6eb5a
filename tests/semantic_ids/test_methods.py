"""What every method must do, whatever it is: one suite over all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from asterism.config import SemanticIdConfig
from asterism.core.errors import DataError
from asterism.semantic_ids import (
    METHODS,
    UNKNOWN,
    SemanticIdRegister,
    build_semantic_ids,
    code_changes,
    extend,
    fit,
    load_semantic_ids,
    save_semantic_ids,
)
from semantic_id_trees import tree

WIDTH = 6


def config_of(method: str, levels: int = 4, codes: int = 8) -> SemanticIdConfig:
    values = {
        "method": method,
        "levels": levels,
        "codes": codes,
        "iterations": 10,
        "epochs": 20,
        "reassign_colliding": False,
    }
    return SemanticIdConfig.model_validate(values)


@pytest.fixture(params=sorted(METHODS))
def config(request: pytest.FixtureRequest) -> SemanticIdConfig:
    return config_of(request.param)


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(150, WIDTH)) + 3.0


def test_a_method_is_one_line_of_configuration() -> None:
    for method in METHODS:
        assert config_of(method).method == method
    with pytest.raises(ValueError, match="rq-kmeans"):
        config_of("rq-kmean")


def test_codes_have_their_shape_and_range(config: SemanticIdConfig, vectors: NDArray[np.float64]) -> None:
    quantizer = fit(vectors, config, seed=0)
    codes = quantizer.assign(vectors)
    assert (quantizer.width, quantizer.levels) == (WIDTH, 3)
    assert codes.shape == (150, 3)
    assert codes.dtype == np.int32
    assert codes.min() >= 0
    assert codes.max() < config.codes
    assert quantizer.assign(vectors[:0]).shape == (0, 3)


def test_equal_seeds_give_equal_codes(config: SemanticIdConfig, vectors: NDArray[np.float64]) -> None:
    first, second = (fit(vectors, config, seed=3) for _ in range(2))
    assert first.arrays().keys() == second.arrays().keys()
    for name, one in first.arrays().items():
        assert_array_equal(one, second.arrays()[name])
    assert_array_equal(first.assign(vectors), second.assign(vectors))


def test_one_at_a_time_gets_the_codes_of_the_bulk(config: SemanticIdConfig, vectors: NDArray[np.float64]) -> None:
    quantizer = fit(vectors, config, seed=0)
    alone = np.concatenate([quantizer.assign(vectors[row : row + 1]) for row in range(len(vectors))])
    assert_array_equal(quantizer.assign(vectors), alone)


def test_each_level_leaves_a_smaller_error(config: SemanticIdConfig, vectors: NDArray[np.float64]) -> None:
    quantizer = fit(vectors, config, seed=0)
    codes = quantizer.assign(vectors)
    spread = np.square(vectors - vectors.mean(axis=0)).sum()
    errors = [np.square(vectors - quantizer.reconstruct(codes[:, :depth])).sum() / spread for depth in (1, 2, 3)]
    assert 1.0 > errors[0] > errors[1] > errors[2]
    assert_array_equal(quantizer.reconstruct(np.column_stack([codes, codes[:, 0]])), quantizer.reconstruct(codes))


def test_the_nearest_code_of_the_last_level_is_the_assigned_one(
    config: SemanticIdConfig, vectors: NDArray[np.float64]
) -> None:
    quantizer = fit(vectors, config, seed=0)
    codes = quantizer.assign(vectors)
    assert_array_equal(quantizer.last_level_distances(vectors, codes).argmin(axis=1), codes[:, -1])


def test_renamed_codes_are_the_same_clusters(config: SemanticIdConfig, vectors: NDArray[np.float64]) -> None:
    quantizer = fit(vectors, config, seed=0)
    codes = quantizer.assign(vectors)
    rng = np.random.default_rng(1)
    names = [rng.permutation(size) for size in quantizer.sizes]
    renamed = quantizer.relabelled(names)
    expected = np.column_stack([one[codes[:, level]] for level, one in enumerate(names)])
    assert_array_equal(renamed.assign(vectors), expected)
    assert_array_equal(renamed.reconstruct(expected), quantizer.reconstruct(codes))
    distances = renamed.last_level_distances(vectors, expected)
    assert_allclose(distances[:, names[-1]], quantizer.last_level_distances(vectors, codes), rtol=1e-9, atol=1e-9)


def test_refitted_codes_agree_with_the_table_whose_names_they_take(
    config: SemanticIdConfig, vectors: NDArray[np.float64]
) -> None:
    before, _ = build_semantic_ids(vectors[:140], config, seed=0)
    earlier = np.concatenate([before.codes, np.full((10, 4), UNKNOWN, dtype=np.int32)])
    after, quantizer = build_semantic_ids(vectors, config, seed=1, earlier=earlier)
    assert_array_equal(quantizer.assign(vectors), after.codes[:, :-1])
    cold = fit(vectors, config, seed=1).assign(vectors)
    assert code_changes(earlier, after.codes).first <= code_changes(earlier[:, :-1], cold).first
    assert len(np.unique(after.codes, axis=0)) == 150


def test_every_item_has_its_own_id_and_twins_share_a_path(
    config: SemanticIdConfig, vectors: NDArray[np.float64]
) -> None:
    doubled = np.concatenate([vectors, vectors[:20]])
    table, quantizer = build_semantic_ids(doubled, config, seed=0)
    assert len({table.path_of(item) for item in range(170)}) == 170
    paths = quantizer.assign(doubled)
    assert_array_equal(paths[:20], paths[150:])


def test_what_is_saved_assigns_as_before(
    config: SemanticIdConfig, vectors: NDArray[np.float64], tmp_path: Path
) -> None:
    table, quantizer = build_semantic_ids(vectors, config, seed=0)
    save_semantic_ids(tmp_path / "ids.safetensors", table, quantizer)
    loaded_table, loaded = load_semantic_ids(tmp_path / "ids.safetensors")
    assert_array_equal(loaded_table.codes, table.codes)
    new = np.random.default_rng(1).normal(size=(40, WIDTH)) + 3.0
    codes = quantizer.assign(new)
    assert_array_equal(loaded.assign(new), codes)
    assert_array_equal(loaded.reconstruct(codes), quantizer.reconstruct(codes))
    assert_array_equal(loaded.last_level_distances(new, codes), quantizer.last_level_distances(new, codes))


def test_new_items_get_free_ids_near_their_own(config: SemanticIdConfig, vectors: NDArray[np.float64]) -> None:
    table, quantizer = build_semantic_ids(vectors, config, seed=0)
    codes = SemanticIdRegister(table, quantizer).assign(vectors[:30])
    assert_array_equal(codes[:, :3], quantizer.assign(vectors[:30]))
    assert len(extend(table, codes)) == 180


def test_constant_vectors_share_a_path(config: SemanticIdConfig) -> None:
    constant = np.full((20, WIDTH), 0.1)
    table, quantizer = build_semantic_ids(constant, config, seed=0)
    assert table.codes[:, -1].tolist() == list(range(20))
    assert len(np.unique(table.codes[:, :-1], axis=0)) == 1
    assert_allclose(quantizer.reconstruct(table.codes), constant, atol=1e-3)


def test_fewer_items_than_codes(config: SemanticIdConfig, vectors: NDArray[np.float64]) -> None:
    table, quantizer = build_semantic_ids(vectors[:3], config, seed=0)
    assert len({table.path_of(item) for item in range(3)}) == 3
    assert quantizer.assign(vectors).shape == (150, 3)


def test_one_item_is_enough(config: SemanticIdConfig) -> None:
    table, quantizer = build_semantic_ids(np.array([[3.0, 4.0]]), config, seed=0)
    assert len(table) == 1
    assert_allclose(quantizer.reconstruct(table.codes), [[3.0, 4.0]], atol=1e-5)


def test_more_levels_than_dimensions(config: SemanticIdConfig) -> None:
    table, _ = build_semantic_ids(np.arange(12.0)[:, None], config, seed=0)
    assert len({table.path_of(item) for item in range(12)}) == 12


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (np.array([[0.0], [np.nan], [np.inf]]), "2 of 3 item vectors hold NaN or infinity, the first at row 1"),
        (np.zeros(3), r"a table \(items, width\), but their shape is \(3,\)"),
        (np.zeros((3, 0)), r"their shape is \(3, 0\)"),
        (np.zeros((0, 3)), "no item vectors"),
    ],
)
def test_broken_vectors_are_named(config: SemanticIdConfig, broken: NDArray[np.float64], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit(broken, config, seed=0)


def test_vectors_of_another_width_are_named(config: SemanticIdConfig, vectors: NDArray[np.float64]) -> None:
    quantizer = fit(vectors, config, seed=0)
    with pytest.raises(DataError, match="width 5, the codebooks were fitted on width 6"):
        quantizer.assign(vectors[:, :5])
    with pytest.raises(DataError, match="1 of 150 item vectors hold NaN"):
        quantizer.assign(np.where(np.arange(150)[:, None] == 7, np.nan, vectors))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"opq", "simhash"}))
def test_learned_codes_recover_a_known_tree(method: str, seed: int) -> None:
    vectors, top, leaf = tree(seed)
    codes = fit(vectors, config_of(method, levels=3, codes=4), seed).assign(vectors)
    assert adjusted_rand_score(top, codes[:, 0]) >= 0.95
    assert adjusted_rand_score(leaf, codes[:, 0] * 4 + codes[:, 1]) >= 0.95
