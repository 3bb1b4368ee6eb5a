"""Buckets found by comparisons are the model's own, bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.decoding.graph.thresholds import (
    gap_buckets,
    gap_thresholds,
    hash_buckets,
    value_buckets,
    value_thresholds,
)
from asterism.models.ugt.buckets import gap_bucket, hash_bucket, value_bucket
from decoding.graph.running import elementwise


def test_a_time_bucket_begins_at_a_power_of_two_less_one() -> None:
    found = gap_thresholds()
    assert found[:5].tolist() == [1, 3, 7, 15, 31]
    assert found[30] == 2**31 - 64, "near there a float of 24 bits rounds up to the power of two"


def test_gaps_at_and_beside_every_threshold() -> None:
    edges = gap_thresholds()
    seconds = np.unique(np.concatenate([[0], edges - 1, edges, edges + 1, [2**40, 2**62]]))
    assert elementwise(seconds, gap_buckets).tolist() == gap_bucket(torch.from_numpy(seconds)).tolist()


def test_values_at_and_beside_every_threshold() -> None:
    edges = value_thresholds()
    near = np.concatenate([edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(np.inf))])
    values = np.concatenate([near, -near, [0.0, -0.0, np.nan, np.inf, -np.inf]]).astype(np.float32)
    assert elementwise(values, value_buckets).tolist() == value_bucket(torch.from_numpy(values)).tolist()


@settings(max_examples=20)
@given(st.lists(st.floats(width=32), min_size=1, max_size=50), st.lists(st.integers(0, 2**34), min_size=1, max_size=50))
def test_any_value_and_any_gap(values: list[float], seconds: list[int]) -> None:
    reals, gaps = np.array(values, np.float32), np.array(seconds)
    assert elementwise(reals, value_buckets).tolist() == value_bucket(torch.from_numpy(reals)).tolist()
    assert elementwise(gaps, gap_buckets).tolist() == gap_bucket(torch.from_numpy(gaps)).tolist()


def test_labels() -> None:
    codes = np.array([0, 1, 1023, 1024, 1025, 65_535, 2**31 - 1])
    assert elementwise(codes, hash_buckets).tolist() == hash_bucket(torch.from_numpy(codes)).tolist()
