"""One conformance suite for every vector index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from asterism.core.errors import UnknownIdError
from asterism.core.ids import IdMap
from asterism.stores.vectors import ExactVectorIndex, Neighbour, VectorIndex

Opener = Callable[[IdMap, np.ndarray], VectorIndex]
IDS = IdMap(["east", "north", "north-east", "west", "nothing"])
VECTORS = np.array([[2, 0], [0, 3], [1, 1], [-5, 0], [0, 0]], dtype=np.float32)


@pytest.fixture(params=["exact"])
def index(request: pytest.FixtureRequest) -> VectorIndex:
    openers: dict[str, Opener] = {"exact": ExactVectorIndex}
    return openers[request.param](IDS, VECTORS)


def test_neighbours_by_cosine_nearest_first(index: VectorIndex) -> None:
    found = index.nearest("east", 2)
    assert found == [Neighbour("north-east", pytest.approx(0.5**0.5)), Neighbour("north", pytest.approx(0.0))]


def test_never_the_item_itself_nor_an_excluded_one(index: VectorIndex) -> None:
    found = index.nearest("east", 10, exclude=["north-east", "no such item"])
    assert [one.item_id for one in found] == ["north", "nothing", "west"]


def test_an_unknown_item_is_named(index: VectorIndex) -> None:
    with pytest.raises(UnknownIdError, match="'south'"):
        index.nearest("south", 1)


def test_similarities_are_cosines_and_zero_where_there_is_no_vector(index: VectorIndex) -> None:
    cosines = index.similarities(["east", "south"], ["west", "north-east", "south"])
    assert np.allclose(cosines, [[-1, 0.5**0.5, 0], [0, 0, 0]])


def test_wrong_shapes_and_values_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 5 items"):
        ExactVectorIndex(IDS, VECTORS[:3])
    with pytest.raises(ValueError, match="not finite"):
        ExactVectorIndex(IDS, np.full((5, 2), np.nan))
