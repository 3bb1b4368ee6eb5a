"""A returning user's state from what is remembered of the events before: one new event costs one token."""

from __future__ import annotations

from ctypes import c_int64, c_void_p
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from asterism.config import ModelConfig
from asterism.core.native import Function, function
from asterism.models.histories import HistoryBatch
from asterism.models.ugt.inference.encoder import InferenceEncoder
from asterism.models.ugt.inference.memory import Memory, MemoryShape, Users
from asterism.models.ugt.inference.whole import Keeping

_MULTIPLIER = -7046029254386353131  # of SplitMix64, as a signed number: spreads what differs in few bits
_SOURCE: Final = Path(__file__).with_name("resumption.cpp")


class _Functions(NamedTuple):
    fingerprints: Function
    count_new: Function


@cache
def _functions() -> _Functions | None:
    prints = function(_SOURCE, "fingerprints", (*[c_int64] * 4, c_void_p, c_void_p))
    new = function(_SOURCE, "count_new", (*[c_int64] * 4, *[c_void_p] * 8))
    return None if prints is None or new is None else _Functions(prints, new)


def can_resume(config: ModelConfig) -> bool:
    """Whether a state follows from remembered keys and values and from events that are new.

    Not where tokens stand before the events (a user's attributes, windows), for they change under all of them, nor
    where the newest event is told when and where the next one is asked for.
    """
    return not (config.user_attributes or config.summaries or config.asked)


def memory_shape(encoder: InferenceEncoder, *, compressed: bool) -> MemoryShape:
    """What a user of this model takes."""
    kind = torch.int8 if compressed else encoder.type
    return MemoryShape(len(encoder.blocks), encoder.max_events, encoder.model.shape.model.width, kind)


def fingerprints(histories: HistoryBatch, events: int) -> Tensor:
    """(B, events) long, right-aligned: 64 bits of all that a model may read of an event, zero where there is none."""
    columns = [histories.items, histories.timestamps, histories.actions]
    if histories.values is not None:
        columns.append(histories.values.float().nan_to_num(nan=-1.5e30).view(torch.int32).long())
    columns += [one for one in (histories.scenes, histories.devices) if one is not None]
    compiled = _functions()
    if compiled is None:
        return _fingerprints(columns, histories.mask, events)
    columns = [one[:, max(0, one.shape[1] - events) :].contiguous() for one in columns]
    rows, tokens = columns[0].shape
    found = torch.empty(rows, events, dtype=torch.long)
    at = np.array([one.data_ptr() for one in columns], dtype=np.int64)
    compiled.fingerprints(rows, tokens, events, len(columns), at.ctypes.data, found.data_ptr())
    return found


def _fingerprints(columns: list[Tensor], mask: Tensor, events: int) -> Tensor:
    total = torch.zeros_like(columns[0])
    for column in columns:
        total = (total ^ (total >> 29) ^ column) * _MULTIPLIER + 1
    total = torch.where(total == 0, 1, total) * mask
    return functional.pad(total, (events - total.shape[1], 0))


class Limits(NamedTuple):
    """When a history is computed anew rather than resumed."""

    most_new: int  # with more new events than this
    most_slides: int  # where more events than this would have left a full window since it was computed


def count_new(memory: Memory, slots: Tensor, prints: Tensor, rows: Tensor, limits: Limits) -> Tensor:
    """(n,) how many events rows (n,) of prints (B, T) have beyond those remembered in slots (n,).

    -1 where they are beyond the limits, or where the others are none of those remembered.
    """
    compiled = _functions()
    if compiled is None:
        return _count_new(memory, slots, prints[rows], limits)
    found = torch.empty_like(rows)
    kept = (memory.prints, memory.newest, memory.lengths, memory.slides)
    at = (one.data_ptr() for one in (rows, prints, slots, *kept, found))
    compiled.count_new(len(rows), prints.shape[1], *limits, *at)
    return found


def _count_new(memory: Memory, slots: Tensor, now: Tensor, limits: Limits) -> Tensor:
    events, before = now.shape[1], memory.in_order(slots)
    new = torch.full((len(now),), -1)
    for count in range(min(limits.most_new + 1, events)):
        alike = (now[:, : events - count] == before[:, count:]).all(dim=1)
        slides = memory.slides[slots] + (memory.lengths[slots] + count - events).clamp(min=0)
        usable = (slides <= limits.most_slides) | (count == 0)
        new = torch.where((new < 0) & alike & usable, count, new)
        if bool((new >= 0).all()):
            break
    return new


def remember(encoder: InferenceEncoder, histories: HistoryBatch, keeping: Keeping) -> Tensor:
    """(B, D) what the blocks make of the newest events; rows with a slot and with events are remembered there."""
    if encoder.whole is not None:
        return encoder.newest(histories, keeping)
    states = torch.zeros(len(histories), encoder.model.shape.model.width)
    kept, plain = (keeping.slots >= 0).nonzero()[:, 0], (keeping.slots < 0).nonzero()[:, 0]
    if len(kept):
        users = _remembered(encoder, rows_of(histories, kept), keeping.prints[kept])
        keeping.memory.put(keeping.slots[kept], users)
        states[kept] = users.states
    if len(plain):
        states[plain] = encoder.newest(rows_of(histories, plain))
    return states


def _remembered(encoder: InferenceEncoder, histories: HistoryBatch, prints: Tensor) -> Users:
    encoded = encoder.blocks_of(histories, keep=True)
    missing = encoder.max_events - histories.items.shape[1]
    ends = torch.full((len(prints),), encoder.max_events - 1)
    return Users(
        [functional.pad(one, (0, 0, missing, 0)) for one in encoded.kept],
        prints,
        functional.pad(histories.timestamps, (missing, 0)),
        ends,
        histories.mask.sum(dim=1),
        torch.zeros_like(ends),
        encoded.states,
    )


class NewEvents(NamedTuple):
    """An event each of some users who are remembered."""

    histories: HistoryBatch  # (B, T)
    prints: Tensor  # (B, events) of them
    rows: Tensor  # (n,) long, whose events they are
    back: int  # which: 1 for the newest


def advance(encoder: InferenceEncoder, memory: Memory, slots: Tensor, new: NewEvents) -> None:
    """Take an event each into what is remembered in slots (n,), the oldest new one first.

    A full window loses its oldest event, which the states of the others have seen: what follows is then no longer the
    answer of a full computation, but near it.
    """
    histories, prints = new.histories, new.prints[new.rows, -new.back]
    moments = histories.timestamps[new.rows, -new.back]
    stop = histories.items.shape[1] - new.back + 1
    tokens = None
    if encoder.whole is None or not encoder.is_plain:  # the gap to the event before may be told
        tokens = encoder.event_tokens(rows_of(histories, new.rows, slice(max(0, stop - 2), stop)))[:, -1].contiguous()
    if encoder.whole is not None:
        encoder.whole.advance(histories.items[new.rows, -new.back], tokens, moments, prints, memory, slots)
        return
    assert tokens is not None
    _advance(encoder, memory, slots, tokens, moments, prints)


def _advance(
    encoder: InferenceEncoder, memory: Memory, slots: Tensor, states: Tensor, moments: Tensor, prints: Tensor
) -> None:
    total = memory.shape.events
    places = (memory.newest[slots] + 1) % total
    memory.slides[slots] += (memory.lengths[slots] == total).long()
    memory.lengths[slots] = (memory.lengths[slots] + 1).clamp(max=total)
    memory.newest[slots], memory.prints[slots, places], memory.moments[slots, places] = places, prints, moments
    distances = (places[:, None] - torch.arange(total)) % total
    gaps = moments[:, None] - memory.moments[slots]
    rows = encoder.bias_rows.of_newest(gaps, distances, distances < memory.lengths[slots, None])
    for layer, block in enumerate(encoder.blocks):
        states = block.advance(states, memory.layers[layer], slots, places, rows)
    memory.states[slots] = states


def rows_of(histories: HistoryBatch, rows: Tensor, columns: slice = slice(None)) -> HistoryBatch:
    """Some rows and columns of histories without what is asked and without older events."""

    def part(column: Tensor | None) -> Tensor | None:
        return None if column is None else column[rows, columns]

    return replace(
        histories,
        items=histories.items[rows, columns],
        timestamps=histories.timestamps[rows, columns],
        actions=histories.actions[rows, columns],
        values=part(histories.values),
        scenes=part(histories.scenes),
        devices=part(histories.devices),
        attributes=None,
        asked=None,
        older=None,
    )
