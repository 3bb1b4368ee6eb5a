"""Items drawn at random, level by level, among the codes that the trie and the filters leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from asterism.core.errors import ModelError, RequestError
from asterism.decoding.candidates import Beams, Candidates, Scores, expand
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.noise import Keys, child_keys, gumbel, root_keys
from asterism.decoding.selection import by_position, select_top
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.steps import PerRow, admission_of, go_on, items_of, next_log_probs, per_row
from asterism.decoding.trie_layout import Indices, ranges
from asterism.models.policy import Policy

_Floats = NDArray[np.float64]


class Sampled(NamedTuple):
    """Items in the order in which they were drawn; -1 and -inf where a row has no more."""

    items: Tensor  # (B, n) long
    code_log_probs: Tensor  # (B, n) float, log p(item) as the policy says it, over all codes
    sampling_log_probs: Tensor  # (B, n) float64, log q(item), over the codes that were legal


class _Draw(NamedTuple):
    """Of each prefix in a beam, beside what a search holds; all (B, W)."""

    log_probs: _Floats  # log q
    perturbed: _Floats  # the largest of the perturbed log q of all items below it
    keys: Keys

    @classmethod
    def of_shape(cls, shape: tuple[int, ...]) -> _Draw:
        """Nothing drawn."""
        return cls(np.full(shape, -np.inf), np.full(shape, -np.inf), np.zeros(shape, dtype=np.uint64))


def sample_items(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    count: PerRow,
    seeds: ArrayLike,
    *,
    temperature: float = 1.0,
    replacement: bool = False,
    exclusions: Exclusions | None = None,
    filters: Sequence[ItemFilter | None] = (),
) -> Sampled:
    """`count` items for each of the states (B, D), by the seeds (B,): the same whatever else is in the batch.

    The codes of a level are drawn in proportion to p(code | prefix)^(1 / temperature) among those that lead to an item
    the row may be given: q(item) = Π_l p(c_l | c_<l)^(1/T) / Σ_legal p(c | c_<l)^(1/T).
    Without replacement the items of a row are distinct and their order is that of drawing one by one from what is left
    of q: stochastic beam search (Kool, van Hoof and Welling 2019, algorithm 1), Gumbel-top-k over all items at the cost
    of a beam `count` wide. A row with fewer items left gets them all. With replacement draws are independent.
    Raises `RequestError` on a senseless count, temperature or number of seeds, `ModelError` if the trie is empty, or
    where the policy answers NaN or gives probability zero to all that is left below a prefix drawn.
    """
    view.require_items()
    rows = state.shape[0]
    counts = per_row(count, rows, "count")
    if not (np.isfinite(temperature) and temperature > 0):
        raise RequestError(f"the temperature is {temperature}; give one above 0, or search with a beam")
    keys = root_keys(_checked_seeds(seeds, rows))
    if not replacement:
        return _draw_distinct(policy, state, view, counts, keys, temperature, exclusions, filters)
    owners = np.repeat(np.arange(rows), counts)
    draws = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    alone = _draw_distinct(
        policy,
        state[torch.from_numpy(owners).to(state.device)],
        view,
        np.ones(len(owners), dtype=np.int64),
        child_keys(keys[owners], draws),
        temperature,
        _repeated(exclusions, owners),
        [filters[row] for row in owners.tolist()] if filters else filters,
    )
    result = _padding(rows, int(counts.max(initial=0)))
    for whole, one in zip(result, alone, strict=True):
        whole[torch.from_numpy(owners), torch.from_numpy(draws)] = one[:, 0]
    return result


def _draw_distinct(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    counts: Indices,
    keys: Keys,
    temperature: float,
    exclusions: Exclusions | None,
    filters: Sequence[ItemFilter | None],
) -> Sampled:
    rows = len(counts)
    admission = admission_of(view, rows, exclusions, filters)
    left = np.ones(rows, dtype=np.bool_) if admission is None else admission.rows_left
    beams = Beams.at_root(left)
    draw = _Draw(np.zeros((rows, 1)), np.zeros((rows, 1)), keys[:, None])
    most = int(counts.max(initial=0))
    if not left.any():
        return _padding(rows, most)
    for level in range(view.layout.levels):
        log_probs = next_log_probs(policy, state, view, beams.codes)
        found = expand(view, level, beams, log_probs, admission)
        steps = _perturb(beams, draw, found, log_probs, temperature)
        best = select_top(torch.from_numpy(steps.perturbed), most, by_position)
        beams, chosen = go_on(view, beams, found, best, counts)
        draw = _Draw.of_shape(beams.starts.shape)
        for new, one in zip(draw, steps, strict=True):
            new[chosen.rows, chosen.columns] = one[chosen.rows, chosen.positions]
    items, code_log_probs = items_of(view, beams, most)
    result = _padding(rows, most)
    result.items[:], result.code_log_probs[:] = torch.from_numpy(items), torch.from_numpy(code_log_probs)
    result.sampling_log_probs[:, : draw.log_probs.shape[1]] = torch.from_numpy(draw.log_probs)
    return result


def _perturb(beams: Beams, draw: _Draw, found: Candidates, log_probs: Scores, temperature: float) -> _Draw:
    """log q, perturbed log q and keys (B, M) of all candidates.

    Gumbel numbers are put on the children's log q, then moved so that the largest is the parent's own perturbed log q
    (Kool et al. 2019, section 4 and, for the numerically stable way, appendix B.3).
    """
    if np.isnan(found.scores).any():
        row = int(np.flatnonzero(np.isnan(found.scores).any(axis=1))[0])
        raise ModelError(f"the policy's score of row {row} is not a number; its training diverged or its input is bad")
    rows, positions = np.nonzero(found.scores > -np.inf)
    origins, codes = found.beams_and_codes(found.at(rows, positions))
    new = np.diff(origins, prepend=-1) != 0  # candidates stand in order of beam
    first, family = np.flatnonzero(new), np.cumsum(new) - 1
    _check_dead_ends(beams, origins[first], found.level)
    powers = log_probs.ravel()[origins * found.size + codes] / np.float64(temperature)
    highest = np.maximum.reduceat(powers, first)
    normaliser = highest + np.log(np.add.reduceat(np.exp(powers - highest[family]), first))
    own = powers - normaliser[family] + draw.log_probs.ravel()[origins]
    keys = child_keys(draw.keys.ravel()[origins], codes)
    noisy = own + gumbel(keys)
    moved = _below(draw.perturbed.ravel()[origins], noisy, np.maximum.reduceat(noisy, first)[family])
    result = _Draw.of_shape(found.scores.shape)
    for whole, one in zip(result, (own, moved, keys), strict=True):
        whole[rows, positions] = one
    return result


def _below(ceiling: _Floats, noisy: _Floats, highest: _Floats) -> _Floats:
    """Gumbel numbers (n,) whose maximum is `highest`, given that it were `ceiling`."""
    gap = noisy - highest
    with np.errstate(divide="ignore"):  # log 0 of the highest itself, which becomes the ceiling
        shift = ceiling - noisy + np.where(gap > -np.log(2), np.log(-np.expm1(gap)), np.log1p(-np.exp(gap)))
    return np.asarray(ceiling - np.maximum(shift, 0) - np.log1p(np.exp(-np.abs(shift))))


def _check_dead_ends(beams: Beams, going_on: Indices, level: int) -> None:
    live = np.flatnonzero(beams.starts >= 0)
    if len(going_on) < len(live):
        row = int(np.setdiff1d(live, going_on)[0]) // beams.starts.shape[1]
        raise ModelError(
            f"dead end at level {level} of row {row}: the policy gives probability zero to all that is left below a "
            "prefix that was drawn; check its log-probabilities for -inf"
        )


def _checked_seeds(seeds: ArrayLike, rows: int) -> Indices:
    checked = np.asarray(seeds, dtype=np.int64)
    if checked.shape != (rows,):
        raise RequestError(f"`seeds` has shape {checked.shape} for {rows} rows; give one seed for each")
    return checked


def _repeated(exclusions: Exclusions | None, owners: Indices) -> Exclusions | None:
    """The exclusions of rows that repeat others, whose numbers `owners` (n,) ascend."""
    if exclusions is None or len(exclusions.rows) == 0:
        return exclusions
    starts = np.searchsorted(exclusions.rows, owners)
    stops = np.searchsorted(exclusions.rows, owners, "right")
    rows, places = ranges(starts, stops)
    return Exclusions(rows, exclusions.items[places])


def _padding(rows: int, count: int) -> Sampled:
    return Sampled(
        torch.full((rows, count), -1, dtype=torch.long),
        torch.full((rows, count), -torch.inf),
        torch.full((rows, count), -torch.inf, dtype=torch.float64),
    )
