"""One step of a search, whatever it orders prefixes by: asking the policy, and going on with what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import ModelError, RequestError
from asterism.decoding.admission import Admission
from asterism.decoding.candidates import Beams, Candidates, Scores, lead
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.selection import TieKeys
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie_layout import Indices
from asterism.models.policy import Policy

#: One number for all rows of a batch, or one for each.
PerRow = int | Sequence[int] | NDArray[np.integer]


class Chosen(NamedTuple):
    """Where the prefixes of a new beam stand in it, and what they grew from; all (n,), row by row, best first."""

    rows: Indices
    columns: Indices
    positions: Indices  # among the candidates of their row
    origins: Indices  # row * W + beam that they grew from
    codes: Indices


def per_row(value: PerRow, rows: int, what: str) -> Indices:
    """(rows,) numbers of one or more; raises `RequestError` on others, or where there are not as many as rows."""
    numbers = np.asarray(value, dtype=np.int64)
    if numbers.ndim == 0:
        numbers = np.full(rows, int(numbers))
    if numbers.shape != (rows,):
        raise RequestError(f"`{what}` has shape {numbers.shape} for {rows} rows; give one for each, or one for all")
    if rows and int(numbers.min()) < 1:
        raise RequestError(f"`{what}` is {int(numbers.min())} in row {int(numbers.argmin())}; it must be at least 1")
    return numbers


def admission_of(
    view: TrieSnapshot, rows: int, exclusions: Exclusions | None, filters: Sequence[ItemFilter | None]
) -> Admission | None:
    """What the rows may be given; None where it is everything."""
    if not filters and (exclusions is None or len(exclusions.rows) == 0):
        return None
    return Admission(view, rows, exclusions or Exclusions.none(), filters)


def next_log_probs(policy: Policy, state: Tensor, view: TrieSnapshot, prefixes: Indices) -> Scores:
    """(B * W, codes) what the policy says of the next code; nothing has to be asked where there is one code only."""
    rows, width, level = prefixes.shape
    size = view.layout.sizes[level]
    if size == 1:
        return np.zeros((rows * width, 1), dtype=np.float32)
    log_probs = policy.next_code_log_probs(state, torch.from_numpy(prefixes).to(state.device))
    if log_probs.shape != (rows, width, size):
        raise ModelError(
            f"the policy answered shape {tuple(log_probs.shape)} at level {level}, not {(rows, width, size)}; "
            "its codebooks are not the trie's"
        )
    flat: NDArray[np.float32] = log_probs.detach().float().cpu().contiguous().view(rows * width, size).numpy()
    return flat


def go_on(
    view: TrieSnapshot, beams: Beams, found: Candidates, best: tuple[NDArray[np.floating], Indices], widths: Indices
) -> tuple[Beams, Chosen]:
    """The beams at the `best` candidates, values and positions (B, C), of which row r keeps the first widths[r].

    Candidates of value -inf are none. The beams' log-probabilities are the candidates' scores.
    """
    values, positions = best
    real = (values > -np.inf) & (np.arange(values.shape[1]) < widths[:, None])
    real = real[:, : max(1, int(real.sum(axis=1).max(initial=0)))]
    rows, columns = np.nonzero(real)
    places = positions[rows, columns]
    steps = found.at(rows, places)
    origins, codes = found.beams_and_codes(steps)
    starts, stops = np.full(real.shape, -1, dtype=np.int64), np.full(real.shape, -1, dtype=np.int64)
    starts[real], stops[real] = lead(view, beams, found, steps)
    log_probs = np.full(real.shape, -np.inf, dtype=np.float32)
    log_probs[real] = found.scores[rows, places]
    width, level = beams.codes.shape[1:]
    prefixes = np.zeros((*real.shape, level + 1), dtype=np.int64)
    prefixes[rows, columns, :level] = beams.codes[origins // width, origins % width]
    prefixes[rows, columns, level] = codes
    return Beams(starts, stops, prefixes, log_probs), Chosen(rows, columns, places, origins, codes)


def by_item(view: TrieSnapshot, beams: Beams, found: Candidates) -> TieKeys:
    """Of equal scores of whole paths the lower item index wins; what is not legal has key 0."""

    def keys(rows: Indices, positions: Indices) -> Indices:
        items = np.zeros(len(rows), dtype=np.int64)
        legal = found.scores[rows, positions] > -np.inf
        items[legal] = view.items_at(lead(view, beams, found, found.at(rows[legal], positions[legal]))[0])
        return items

    return keys


def check_dead_end(beams: Beams, left: NDArray[np.bool_], level: int) -> None:
    """Raise `ModelError` if a row (B,) that has something left is without a beam after a level."""
    stuck = np.flatnonzero(left & (beams.starts[:, 0] < 0))
    if len(stuck):
        raise dead_end(level, int(stuck[0]))


def dead_end(level: int, row: int) -> ModelError:
    """The policy leaves a row no path."""
    return ModelError(
        f"dead end at level {level} of row {row}: the policy gives probability zero to every path to the "
        "items left; check its log-probabilities for -inf"
    )


def items_of(view: TrieSnapshot, beams: Beams, count: int) -> tuple[Indices, Scores]:
    """The items of whole paths and their log-probabilities, in `count` columns; -1 and -inf where there are none."""
    rows = len(beams.starts)
    items = np.full((rows, count), -1, dtype=np.int64)
    log_probs = np.full((rows, count), -np.inf, dtype=np.float32)
    at, columns = np.nonzero(beams.starts >= 0)
    if beams.codes.shape[2] == view.layout.levels:
        items[at, columns] = view.items_at(beams.starts[at, columns])
        log_probs[at, columns] = beams.log_probs[at, columns]
    return items, log_probs
