"""Random numbers that belong to a path: the same for a seed and a path, whatever else is drawn beside it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from asterism.decoding.trie_layout import Indices

Keys = NDArray[np.uint64]

#: Constants of SplitMix64 (Steele, Lea and Flood 2014).
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def root_keys(seeds: Indices) -> Keys:
    """The keys (n,) of empty paths, one for each seed."""
    return _mix(seeds.astype(np.uint64) + _STEP)


def child_keys(parents: Keys, codes: Indices) -> Keys:
    """The keys (n,) of paths that go on from others by codes: each parent begins a SplitMix64 stream of its own."""
    return _mix(parents + (codes.astype(np.uint64) + np.uint64(1)) * _STEP)


def gumbel(keys: Keys) -> NDArray[np.float64]:
    """A standard Gumbel number for each key, from its upper 52 bits."""
    uniform = ((keys >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return np.asarray(-np.log(-np.log(uniform)))


def _mix(states: Keys) -> Keys:
    states = (states ^ (states >> np.uint64(30))) * _FIRST
    states = (states ^ (states >> np.uint64(27))) * _SECOND
    return np.asarray(states ^ (states >> np.uint64(31)))
