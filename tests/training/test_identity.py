"""A checkpoint of other data is known by any of their arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import worlds
from asterism.data.sequences import Asked
from asterism.training.identity import data_hashes


@pytest.mark.parametrize("name", ["offsets", "items", "timestamps", "actions", "values", "scenes", "asked"])
def test_every_array_of_the_training_rows_counts(name: str) -> None:
    split = worlds.markov_chain(items=5)
    changed = getattr(split.train, name)
    if name == "asked":
        changed = Asked(np.zeros(len(split.train), dtype=np.int64))
    elif changed is None:
        changed = np.ones(split.train.events, dtype=np.float32)
    else:
        changed = changed.copy()
        changed[-1] += 1
    assert data_hashes(replace(split, train=replace(split.train, **{name: changed}))) != data_hashes(split)


def test_validation_counts_and_equal_data_are_equal() -> None:
    split, again = worlds.markov_chain(items=5), worlds.markov_chain(items=5)
    assert data_hashes(split) == data_hashes(again)
    half = split.validation.take(np.arange(len(split.validation) // 2))
    assert data_hashes(replace(split, validation=half)) != data_hashes(split)
