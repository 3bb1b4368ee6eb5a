"""Later items get free ids: in bulk what a slow twin gives them one by one, and at once what nobody else holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.core.errors import DataError, ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.semantic_ids import Codebooks, SemanticIdRegister, build_semantic_ids

LINE = Codebooks((np.array([[0.0], [10.0], [20.0]], dtype=np.float32),))


def slow_twin(
    held: set[tuple[int, ...]], size: int, codebooks: Codebooks, vectors: NDArray[np.float64]
) -> list[tuple[int, ...]]:
    """Look at every id in the order of its distance, for one item after another."""
    given_out = []
    for vector in vectors:
        path = codebooks.assign(vector[None])[0].tolist()
        distances = codebooks.last_level_distances(vector[None], np.array([path]))[0]
        ranking = [path[-1], *np.argsort(distances, kind="stable").tolist()]
        ids = ((*path[:-1], code, last) for code in ranking for last in range(size))
        found = next(one for one in ids if one not in held)
        held.add(found)
        given_out.append(found)
    return given_out


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 2)), unique=True, max_size=12),
    st.lists(st.integers(0, 5), max_size=10),
    st.integers(0, 2**31),
)
def test_a_batch_gets_what_a_slow_twin_gives_one_by_one(
    held: list[tuple[int, int, int]], picks: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codebooks = Codebooks(
        (np.array([[0, 0], [9, 9]], dtype=np.float32), rng.integers(-2, 3, size=(3, 2)).astype(np.float32))
    )
    vectors = (rng.integers(0, 2, size=(6, 1)) * 9.0 + rng.normal(size=(6, 2)))[picks].reshape(-1, 2)
    table = SemanticIdTable(np.array(held, dtype=np.int32).reshape(-1, 3), (2, 3, 3))
    try:
        expected = slow_twin(set(held), 3, codebooks, vectors)
    except StopIteration:
        register = SemanticIdRegister(table, codebooks)
        with pytest.raises(ModelError, match="no semantic id is free"):
            register.assign(vectors)
        for row in vectors[:1]:  # nothing was taken
            path = codebooks.assign(row[None])[0].tolist()
            free = [last for last in range(3) if (*path, last) not in held]
            assert not free or register.assign(row[None]).tolist() == [[*path, free[0]]]
        return
    assert SemanticIdRegister(table, codebooks).assign(vectors).tolist() == [list(one) for one in expected]
    alone = SemanticIdRegister(table, codebooks)
    assert [tuple(alone.assign(row[None])[0].tolist()) for row in vectors] == expected


def test_what_is_released_is_given_out_again_lowest_first() -> None:
    table = SemanticIdTable(np.array([[0, 0], [0, 1], [0, 2], [1, 0]]), (3, 4))
    register = SemanticIdRegister(table, LINE)
    register.release(table.codes[[2, 0]])
    assert register.assign(np.zeros((4, 1))).tolist() == [[0, 0], [0, 2], [0, 3], [1, 1]]
    with pytest.raises(ModelError, match="nobody holds the semantic id <a_2><b_1>"):
        register.release(np.array([[2, 1]]))
    with pytest.raises(ModelError, match="nobody holds"):
        register.release(np.array([[0, -1]]))


def test_a_batch_that_does_not_fit_leaves_nothing_taken() -> None:
    register = SemanticIdRegister(SemanticIdTable(np.array([[1, 0]]), (3, 2)), LINE)
    with pytest.raises(ModelError, match="no semantic id is free"):
        register.assign(np.zeros((6, 1)))
    assert register.assign(np.zeros((5, 1))).tolist() == [[0, 0], [0, 1], [1, 1], [2, 0], [2, 1]]


def test_a_code_at_an_infinite_distance_is_never_taken() -> None:
    priced = Codebooks(LINE.centroids, (np.array([0.0, np.inf, 0.0], dtype=np.float32),))
    register = SemanticIdRegister(SemanticIdTable(np.empty((0, 2)), (3, 1)), priced)
    assert register.assign(np.zeros((2, 1))).tolist() == [[0, 0], [2, 0]]
    with pytest.raises(ModelError, match="no semantic id is free"):
        register.assign(np.zeros((1, 1)))


def test_a_broken_vector_takes_nothing() -> None:
    register = SemanticIdRegister(SemanticIdTable(np.empty((0, 2)), (3, 1)), LINE)
    with pytest.raises(DataError, match="NaN"):
        register.assign(np.array([[0.0], [np.nan]]))
    assert register.assign(np.zeros((1, 1))).tolist() == [[0, 0]]
    assert register.assign(np.zeros((0, 1))).shape == (0, 2)


def test_a_later_item_gets_the_path_of_its_twin_in_the_table() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8))
    table, quantizer = build_semantic_ids(
        vectors, SemanticIdConfig(levels=4, codes=8, reassign_colliding=False), seed=0
    )
    later = SemanticIdRegister(table, quantizer).assign(vectors)
    assert_array_equal(later[:, :-1], table.codes[:, :-1])
    groups = np.unique(table.codes[:, :-1], axis=0, return_inverse=True)[1]
    assert_array_equal(later[:, -1], table.codes[:, -1] + np.bincount(groups)[groups])
