"""Fusion: the parts of an item brought to one scale, missing ones filled in, joined and rotated to one width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import DataError
from asterism.embeddings.filling import References, fill_missing
from asterism.embeddings.linear import principal_axes
from asterism.embeddings.part import Part, absent_part

MAX_REFERENCES: Final = 50_000
WHITENING: Final = 0.5  # 0 keeps the variance of each axis, 1 makes all axes equal


@dataclass(frozen=True, slots=True)
class FittedPart:
    """How one part is centred, reduced, whitened and weighted."""

    name: str
    mean: NDArray[np.float32]  # (d,)
    axes: NDArray[np.float32]  # (d, r)
    weight: float  # its share of the squared distance between two items

    def scale(self, part: Part) -> NDArray[np.float32]:
        """(N, r) rows of length √weight; zeros where the part is missing. Raises `DataError` on another width."""
        if part.width != len(self.mean):
            raise DataError(
                f"the part {self.name!r} has width {part.width}, it was fitted on {len(self.mean)}; "
                "compute it with the model it was fitted with"
            )
        rows = (part.vectors - self.mean) @ self.axes
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: NDArray[np.float32] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        unit[~part.present] = 0.0
        unit *= self.weight**0.5
        return unit


class Joined(NamedTuple):
    """Items as fusion sees them before the last rotation."""

    rows: NDArray[np.float32]  # (N, Σr) scaled blocks, one a part
    present: NDArray[np.bool_]  # (N, parts) what was there before filling


@dataclass(frozen=True, slots=True)
class FusionModel:
    """Fitted means, axes and reference items: embeds new items as it embedded those it was fitted on."""

    parts: tuple[FittedPart, ...]
    references: NDArray[np.float16]  # (R, Σr) scaled items with more than one part
    known: NDArray[np.bool_]  # (R, parts)
    mean: NDArray[np.float32]  # (Σr,)
    axes: NDArray[np.float32]  # (Σr, ≤ width)
    width: int

    @property
    def part_of_column(self) -> NDArray[np.int64]:
        """(Σr,) which part each joined column belongs to."""
        return _part_of_column(self.parts)

    def transform(self, parts: Mapping[str, Part]) -> NDArray[np.float32]:
        """(N, width) fused vectors; a part that is not given counts as missing for every item.

        A missing part is filled in from the items nearest in the parts that are there (weights 1/d²), so
        an item that loses a part stays beside its twins. An item without any part gets the catalogue's mean.
        """
        return self.rotate(self.join(parts).rows)

    def join(self, parts: Mapping[str, Part]) -> Joined:
        """The parts side by side, missing ones filled in; an item without any part gets the catalogue's mean."""
        joined, present = _scale_all(self.parts, parts)
        fill_missing(joined, present, References(self.references, self.known), self.part_of_column)
        joined[~present.any(axis=1)] = self.mean
        return Joined(joined, present)

    def own_references(self, present: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(N,) the place of each item it was fitted on among its references, or -1."""
        picked = _pick_references(present)
        own = np.full(len(present), -1, dtype=np.int64)
        own[picked] = np.arange(len(picked))
        return own

    def rotate(self, joined: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, width) from (N, Σr): centred, on the principal axes, cut or padded with zeros."""
        rotated = (joined - self.mean) @ self.axes
        return np.pad(rotated, ((0, 0), (0, self.width - rotated.shape[1])))


def fit_fusion(
    parts: Mapping[str, Part], weights: Mapping[str, float], width: int
) -> tuple[FusionModel, NDArray[np.float32]]:
    """Fit on parts of equal length and return the model with the (N, width) vectors of the same items.

    Each part is centred, reduced to at most `width` principal axes, partly whitened, row-normalised and
    weighted; the join is rotated to its principal axes and cut or padded with zeros to `width`. Parts with
    weight 0 or without data are left out. Raises `DataError` where nothing is left.
    """
    used = {name: part for name, part in parts.items() if weights[name] > 0 and part.present.any()}
    if not used:
        raise DataError(
            "no item has any text, interaction, structured field or vector to be embedded by; "
            "give the items titles, categories or prices, or events of more items"
        )
    fitted = tuple(_fit_part(name, part, weights[name], width) for name, part in used.items())
    joined, present = _scale_all(fitted, used)
    references = _pick_references(present)
    stored, known = joined[references].astype(np.float16), present[references]
    fill_missing(joined, present, References(stored, known), _part_of_column(fitted))
    mean, axes, _ = principal_axes(joined[present.any(axis=1)], width)
    model = FusionModel(fitted, stored, known, mean, axes, width)
    return model, model.transform(used)


def _fit_part(name: str, part: Part, weight: float, width: int) -> FittedPart:
    mean, directions, variances = principal_axes(part.vectors[part.present], width)
    return FittedPart(name, mean, directions * variances ** (-WHITENING / 2), weight)


def _scale_all(
    fitted: tuple[FittedPart, ...], parts: Mapping[str, Part]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    items = {len(part) for part in parts.values()}
    if len(items) != 1:
        raise DataError(f"the parts of a fusion must cover the same items, but they have {sorted(items)} rows")
    count = items.pop()
    given = [parts.get(one.name) or absent_part(count, len(one.mean)) for one in fitted]
    joined = np.concatenate([one.scale(part) for one, part in zip(fitted, given, strict=True)], axis=1)
    return joined, np.column_stack([part.present for part in given])


def _part_of_column(fitted: tuple[FittedPart, ...]) -> NDArray[np.int64]:
    """(Σr,) which part each joined column belongs to."""
    return np.repeat(np.arange(len(fitted)), [one.axes.shape[1] for one in fitted])


def _pick_references(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    rich = np.flatnonzero(present.sum(axis=1) > 1)
    if len(rich) <= MAX_REFERENCES:
        return rich
    return rich[np.linspace(0, len(rich) - 1, MAX_REFERENCES).astype(np.int64)]
