"""Fusion keeps twins together when a part is missing, weighs parts as told, and refuses what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from asterism.core.errors import DataError
from asterism.embeddings.fusion import fit_fusion
from asterism.embeddings.part import Part

WEIGHTS = {"text": 1.0, "collaborative": 1.0, "structured": 0.5}


def part(vectors: NDArray[np.floating], missing: tuple[int, ...] = ()) -> Part:
    present = np.ones(len(vectors), dtype=np.bool_)
    present[list(missing)] = False
    return Part(vectors.astype(np.float32), present)


def twins(missing: dict[str, tuple[int, ...]]) -> dict[str, Part]:
    """60 items; 2k and 2k + 1 are equal in every part."""
    rng = np.random.default_rng(0)
    return {
        name: part(np.repeat(rng.normal(size=(30, width)), 2, axis=0), missing.get(name, ()))
        for name, width in (("text", 20), ("collaborative", 12), ("structured", 6))
    }


def nearest(vectors: NDArray[np.float32], item: int) -> int:
    distances = np.square(vectors - vectors[item]).sum(axis=1)
    distances[item] = np.inf
    return int(distances.argmin())


@pytest.mark.parametrize("lost", ["text", "collaborative", "structured"])
def test_an_item_that_loses_a_part_stays_beside_its_twin(lost: str) -> None:
    gone = (0, 6, 13, 21, 40)
    _, vectors = fit_fusion(twins({lost: gone}), WEIGHTS, width=32)
    assert [nearest(vectors, item) for item in gone] == [item ^ 1 for item in gone]
    apart = [float(np.square(vectors[item] - vectors[item ^ 1]).sum()) for item in gone]
    assert max(apart) < 0.01  # unrelated items lie about 5 apart


def test_an_item_with_one_part_left_stays_beside_its_twin() -> None:
    _, vectors = fit_fusion(twins({"collaborative": (4,), "structured": (4,)}), WEIGHTS, width=32)
    assert nearest(vectors, 4) == 5


def test_what_stands_in_a_missing_row_does_not_matter() -> None:
    clean, dirty = twins({"text": (3,)}), twins({"text": (3,)})
    dirty["text"].vectors[3] = 1e6
    assert_array_equal(fit_fusion(clean, WEIGHTS, 16)[1], fit_fusion(dirty, WEIGHTS, 16)[1])


def test_transform_repeats_what_fit_returned() -> None:
    parts = twins({"collaborative": (0, 1, 2), "text": (2, 9)})
    model, vectors = fit_fusion(parts, WEIGHTS, width=16)
    assert_array_equal(model.transform(parts), vectors)
    alone = {name: Part(one.vectors[2:3], one.present[2:3]) for name, one in parts.items()}
    assert_allclose(model.transform(alone), vectors[2:3], atol=1e-5)


def test_squared_distances_add_up_by_weight() -> None:
    """Two items differ in one part only: their squared distance is that part's weight times 2 - 2 cos."""
    parts = twins({})
    parts["structured"].vectors[1] = -parts["structured"].vectors[0]
    light = fit_fusion(parts, {**WEIGHTS, "structured": 0.25}, width=64)[1]
    heavy = fit_fusion(parts, {**WEIGHTS, "structured": 1.0}, width=64)[1]
    near, far = (float(np.square(one[0] - one[1]).sum()) for one in (light, heavy))
    assert_allclose(far / near, 4.0, rtol=1e-3)


def test_a_weight_of_zero_leaves_a_part_out() -> None:
    parts = twins({})
    without = {name: one for name, one in parts.items() if name != "text"}
    with_zero = fit_fusion(parts, {**WEIGHTS, "text": 0.0}, width=8)[1]
    assert_array_equal(with_zero, fit_fusion(without, WEIGHTS, width=8)[1])


def test_narrow_parts_are_padded_to_the_width() -> None:
    _, vectors = fit_fusion({"text": part(np.eye(4))}, WEIGHTS, width=10)
    assert vectors.shape == (4, 10)
    assert vectors.dtype == np.float32
    assert not vectors[:, 4:].any()


def test_an_item_without_any_part_gets_the_mean() -> None:
    gone = {name: (7,) for name in WEIGHTS}
    _, vectors = fit_fusion(twins(gone), WEIGHTS, width=32)
    assert not vectors[7].any()
    assert_allclose(np.delete(vectors, 7, axis=0).mean(axis=0), 0, atol=1e-5)


def test_parts_that_no_item_has_together_are_filled_with_the_mean() -> None:
    rng = np.random.default_rng(1)
    parts = {
        "text": part(rng.normal(size=(10, 4)), missing=tuple(range(5))),
        "structured": part(rng.normal(size=(10, 4)), missing=tuple(range(5, 10))),
    }
    _, vectors = fit_fusion(parts, WEIGHTS, width=8)
    parts["text"].vectors[:5] = 1e6
    assert_array_equal(fit_fusion(parts, WEIGHTS, width=8)[1], vectors)


def test_constant_vectors_become_equal_vectors() -> None:
    _, vectors = fit_fusion({"text": part(np.ones((5, 3)))}, WEIGHTS, width=4)
    assert_array_equal(vectors, np.zeros((5, 4)))


def test_parts_that_do_not_fit_are_refused() -> None:
    model, _ = fit_fusion(twins({}), WEIGHTS, width=8)
    with pytest.raises(DataError, match="'text' has width 3, it was fitted on 20"):
        model.transform({"text": part(np.ones((2, 3)))})
    with pytest.raises(DataError, match="same items"):
        model.transform({"text": part(np.ones((2, 20))), "structured": part(np.ones((3, 6)))})
    with pytest.raises(DataError, match="no item has any"):
        fit_fusion({"text": part(np.ones((2, 3)), missing=(0, 1))}, WEIGHTS, width=8)
