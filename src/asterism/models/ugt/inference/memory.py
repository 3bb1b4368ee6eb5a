"""Users' keys and values between requests: rings of the newest events, in bf16 or fp32, or in int8 for the cold."""

from __future__ import annotations

from ctypes import Structure, addressof, c_int64, c_void_p
from typing import Final, NamedTuple

import torch
from torch import Tensor

_LARGEST_CODE: Final = 127.0
#: Fingerprints, moments and three counters.
_EVENT_BYTES: Final = 16
_USER_BYTES: Final = 24


class MemoryShape(NamedTuple):
    """What fixes the size of a user."""

    layers: int
    events: int
    width: int
    kind: torch.dtype  # of values and keys; int8 keeps a scale for each event's values and for its keys

    @property
    def bytes(self) -> int:
        """What a user costs."""
        event = 2 * self.width * self.kind.itemsize + (8 if self.kind == torch.int8 else 0)
        return self.events * (self.layers * event + _EVENT_BYTES) + 4 * self.width + _USER_BYTES


class Users(NamedTuple):
    """n users outside of a memory."""

    layers: list[Tensor]  # by layer, (n, T, 2 D) values and keys at the places of their rings
    prints: Tensor  # (n, T) long, what tells events apart, likewise
    moments: Tensor  # (n, T) long, Unix seconds
    newest: Tensor  # (n,) long, the place of the newest event
    lengths: Tensor  # (n,) long, events that are there
    slides: Tensor  # (n,) long, events that have left since all was computed
    states: Tensor  # (n, D) fp32, what the blocks made of the newest event


class _Rings(Structure):
    """As compiled code reads a memory (`layers.h`)."""

    _fields_ = (
        ("events", c_int64),
        *((name, c_void_p) for name in ("layers", "prints", "moments", "newest", "lengths", "slides", "states")),
    )


class Memory:
    """Room for so many users; who stands where is the caller's to know.

    An event's place in the ring never changes, so an event more writes one place a layer.
    """

    def __init__(self, shape: MemoryShape, capacity: int) -> None:
        self.shape = shape
        kind = torch.int8 if shape.kind == torch.int8 else shape.kind
        size = (capacity, shape.events, 2 * shape.width)
        # Zeroed, for what is read of a place without an event is multiplied by zero, and must be a number.
        self.layers = [torch.zeros(size, dtype=kind) for _ in range(shape.layers)]
        scales = (capacity, shape.events, 2) if kind == torch.int8 else (0, 0, 2)
        self._scales = [torch.empty(scales) for _ in range(shape.layers)]
        self.prints = torch.zeros(capacity, shape.events, dtype=torch.long)
        self.moments = torch.zeros(capacity, shape.events, dtype=torch.long)
        self.newest = torch.zeros(capacity, dtype=torch.long)
        self.lengths = torch.zeros(capacity, dtype=torch.long)
        self.slides = torch.zeros(capacity, dtype=torch.long)
        self.states = torch.zeros(capacity, shape.width)
        self._at_layers = (c_void_p * shape.layers)(*(one.data_ptr() for one in self.layers))
        counted = (self.prints, self.moments, self.newest, self.lengths, self.slides, self.states)
        self._rings = _Rings(shape.events, addressof(self._at_layers), *(one.data_ptr() for one in counted))

    @property
    def rings(self) -> int:
        """Where compiled code finds all this, while the memory is there."""
        return addressof(self._rings)

    def put(self, slots: Tensor, users: Users) -> None:
        """Write users (n,) to slots (n,), which differ."""
        for layer, kept in enumerate(users.layers):
            if self.shape.kind == torch.int8:
                codes, scales = _compressed(kept)
                self.layers[layer][slots] = codes
                self._scales[layer][slots] = scales
            else:
                self.layers[layer][slots] = kept.to(self.shape.kind)
        self.prints[slots], self.moments[slots], self.newest[slots] = users.prints, users.moments, users.newest
        self.lengths[slots], self.slides[slots], self.states[slots] = users.lengths, users.slides, users.states

    def get(self, slots: Tensor) -> Users:
        """The users in slots (n,)."""
        return Users(
            [self.layer(layer, slots) for layer in range(self.shape.layers)],
            self.prints[slots],
            self.moments[slots],
            self.newest[slots],
            self.lengths[slots],
            self.slides[slots],
            self.states[slots],
        )

    def layer(self, layer: int, slots: Tensor) -> Tensor:
        """(n, T, 2 D) values and keys of a layer."""
        found = self.layers[layer].index_select(0, slots)
        if self.shape.kind != torch.int8:
            return found
        return (found.view(*found.shape[:2], 2, -1) * self._scales[layer][slots][..., None]).view(found.shape)

    def in_order(self, slots: Tensor) -> Tensor:
        """(n, T) fingerprints, the newest last, zero where there is no event."""
        order = (self.newest[slots, None] + 1 + torch.arange(self.shape.events)) % self.shape.events
        return self.prints[slots[:, None], order]


def _compressed(kept: Tensor) -> tuple[Tensor, Tensor]:
    """(n, T, 2 D) → codes of that shape and their scales (n, T, 2)."""
    halves = kept.float().view(*kept.shape[:2], 2, -1)
    scales = halves.abs().amax(dim=-1).clamp(min=1e-12) / _LARGEST_CODE
    return (halves / scales[..., None]).round().to(torch.int8).view(kept.shape), scales
