"""Items are moved apart by as little as an exact solver would move them, and no more of them than must be."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment

from asterism.config import SemanticIdConfig
from asterism.semantic_ids import METHODS, Codebooks, build_semantic_ids
from asterism.semantic_ids.collisions import reassign_colliding
from asterism.semantic_ids.sinkhorn import sinkhorn_plan


@pytest.mark.parametrize("seed", range(8))
def test_at_a_low_temperature_the_plan_is_the_optimal_assignment(seed: int) -> None:
    costs = np.random.default_rng(seed).uniform(size=(6, 6))
    rows, columns = linear_sum_assignment(costs)
    potentials = None
    for temperature in (1.0, 0.3, 0.1, 0.03, 0.01, 0.003):
        plan, potentials = sinkhorn_plan(torch.from_numpy(costs), torch.ones(6).double(), temperature, 300, potentials)
    assert_allclose(float((plan.exp() * torch.from_numpy(costs)).sum()), costs[rows, columns].sum(), rtol=0.02)


def test_a_plan_keeps_its_totals() -> None:
    costs = torch.from_numpy(np.random.default_rng(0).uniform(size=(9, 3)))
    plan, _ = sinkhorn_plan(costs, torch.tensor([2.0, 3.0, 4.0]).double(), 0.1, 200)
    assert_allclose(plan.exp().sum(dim=0), [2, 3, 4], rtol=1e-6)
    assert_allclose(plan.exp().sum(dim=1), np.ones(9), rtol=1e-4)


LINE = Codebooks((np.array([[0.0], [100.0]], dtype=np.float32), np.arange(-2, 3, dtype=np.float32)[:, None]))


def test_one_stays_and_the_other_takes_the_nearest_free_code_by_hand() -> None:
    vectors = np.array([[0.4], [0.1], [-0.9], [101.0]])  # the first two share <0, 2>; code 1 is taken by the third
    paths = LINE.assign(vectors)
    assert paths.tolist() == [[0, 2], [0, 2], [0, 1], [1, 3]]
    assert reassign_colliding(LINE, vectors, paths).tolist() == [[0, 3], [0, 2], [0, 1], [1, 3]]


def test_a_place_is_kept_where_all_codes_are_equally_far() -> None:
    equal = Codebooks((np.zeros((4, 1), dtype=np.float32),))
    moved = reassign_colliding(equal, np.ones((2, 1)), np.zeros((2, 1), dtype=np.int32))
    assert 0 in moved[:, 0]
    assert len(np.unique(moved)) == 2


def test_where_codes_run_out_as_many_move_as_can() -> None:
    vectors = np.full((9, 1), 0.1)
    moved = reassign_colliding(LINE, vectors, LINE.assign(vectors))
    assert sorted(moved[:, 1].tolist()) == [0, 1, 2, 2, 2, 2, 2, 3, 4]
    assert (moved[:, 0] == 0).all()


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 2**31))
def test_as_few_move_as_must_and_none_that_had_its_own_path(items: int, codes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 4, size=(items, 2)) + rng.integers(0, 2, size=(items, 1)) * 20.0
    books = Codebooks((np.array([[0, 0], [20, 20]], dtype=np.float32), rng.normal(size=(codes, 2)).astype(np.float32)))
    paths = books.assign(vectors)
    moved = reassign_colliding(books, vectors, paths)
    assert_array_equal(moved[:, 0], paths[:, 0])
    changed = moved[:, 1] != paths[:, 1]
    for top in (0, 1):
        here = paths[:, 0] == top
        too_many = here.sum() - len(np.unique(paths[here], axis=0))
        free = codes - len(np.unique(paths[here, 1]))
        assert changed[here].sum() == min(too_many, free)
        assert set(paths[here, 1]) <= set(moved[here, 1])
    alone = [one for one in range(items) if (paths == paths[one]).all(axis=1).sum() == 1]
    assert not changed[alone].any()


@settings(max_examples=40)
@given(st.integers(2, 6), st.integers(2, 5), st.integers(0, 2**31))
def test_the_added_distance_is_the_least_of_all_separations(items: int, codes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 3, size=(items, 2)).astype(float)
    centroids = rng.integers(-1, 4, size=(codes, 2)).astype(np.float32)
    books = Codebooks((centroids,))
    paths = books.assign(vectors)
    distances = books.last_level_distances(vectors, paths)
    own = paths[:, 0]
    colliding = np.bincount(own, minlength=codes)[own] > 1
    distinct, least = 0, math.inf
    for picked in itertools.product(range(codes), repeat=items):
        kept = np.array(picked) == own
        entered = [code for code, stays in zip(picked, kept, strict=True) if not stays]
        legal = set(own) <= set(picked) and kept[~colliding].all() and not set(entered) & set(own)
        if not legal or len(set(entered)) < len(entered):
            continue
        total = distances[np.arange(items), picked].sum()
        distinct, least = min((distinct, least), (-len(set(picked)), total))
    moved = reassign_colliding(books, vectors, paths)[:, 0]
    assert len(set(moved.tolist())) == -distinct
    assert_allclose(distances[np.arange(items), moved].sum(), least, atol=1e-9)


def test_thousands_on_one_prefix_are_moved_apart_at_once() -> None:
    rng = np.random.default_rng(0)
    books = Codebooks((np.zeros((1, 8), dtype=np.float32), rng.normal(size=(256, 8)).astype(np.float32) * 3))
    vectors = rng.normal(size=(5000, 8))
    paths = books.assign(vectors)
    started = time.process_time()
    moved = reassign_colliding(books, vectors, paths)
    assert time.process_time() - started < 5.0  # 0.05 s; square matrices would take hours
    used = len(np.unique(paths[:, 1]))
    assert used < 200
    assert set(moved[:, 1].tolist()) == set(range(256))
    assert (moved != paths).any(axis=1).sum() == 256 - used


def test_paths_without_collisions_stay() -> None:
    vectors = np.array([[0.0], [1.0], [101.0]])
    assert_array_equal(reassign_colliding(LINE, vectors, LINE.assign(vectors)), LINE.assign(vectors))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_ends_with_fewer_collisions_and_unique_ids(method: str) -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(40, 6)), 3, axis=0) + rng.normal(size=(120, 6)) * 0.02
    values = {"method": method, "levels": 3, "codes": 8, "epochs": 5}
    before, after = (
        build_semantic_ids(vectors, SemanticIdConfig.model_validate(values | {"reassign_colliding": moved}), seed=0)[0]
        for moved in (False, True)
    )
    distinct = [len(np.unique(table.codes[:, :-1], axis=0)) for table in (before, after)]
    assert distinct[1] > 1.3 * distinct[0]
    assert len({after.path_of(item) for item in range(120)}) == 120
