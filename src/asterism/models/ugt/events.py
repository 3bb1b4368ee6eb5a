"""An event at its position: the sum of its item, what was done with it, and in which circumstances."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asterism.config import ModelConfig
from asterism.core.records import ACTIONS
from asterism.models.policy import HistoryBatch
from asterism.models.ugt.buckets import HASH_BUCKETS, TIME_BUCKETS, VALUE_BUCKETS, gap_bucket, hash_bucket, value_bucket
from asterism.models.ugt.group_norm import GroupLayerNorm
from asterism.models.ugt.items import small_embedding

#: About as loud as the sum of embeddings that it replaces; at 1 the newest item would drown what the blocks add.
INPUT_SCALE = 0.1


class EventTokens(nn.Module):
    """Adds the groups "action" and "context" to items, each normalised by itself where the groups are.

    A part whose column the batch lacks counts as missing, which has a vector of its own.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.action = _tables(_action_rows(config), config.width)
        self.context = _tables(_context_rows(config), config.width)
        groups = 1 + sum(1 for one in (self.action, self.context) if one)
        self.norm = GroupLayerNorm(groups, config.width, INPUT_SCALE) if config.group_norm else None

    def forward(self, items: Tensor, histories: HistoryBatch) -> Tensor:
        """(E, D) vectors of the events' items, in the order of `histories.mask` → (E, D) events."""
        parts = [items]
        if self.action:
            parts.append(_summed(self.action, action_places(histories), histories.mask))
        if self.context:
            parts.append(_summed(self.context, context_places(histories), histories.mask))
        if self.norm is not None:
            parts = [self.norm(part, group) for group, part in enumerate(parts)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


def action_places(histories: HistoryBatch) -> dict[str, Tensor]:
    """(B, T) rows in the tables of the action group; a rating of 5 and a stay of 5 seconds differ."""
    places = {"kind": histories.actions}
    if histories.values is None:
        places["value"] = torch.zeros_like(histories.actions)
    else:
        bucket = value_bucket(histories.values)
        places["value"] = torch.where(bucket > 0, histories.actions * VALUE_BUCKETS + bucket, 0)
    return places


def context_places(histories: HistoryBatch) -> dict[str, Tensor]:
    """(B, T) rows in the tables of the context group.

    What is asked at an event is asked at the moment of the next one: of the request, after the newest.
    """
    times, mask, asked = histories.timestamps, histories.mask, histories.asked
    none = torch.full_like(times[:, :1], -1)
    before = torch.cat([none, torch.where(mask[:, :-1], times[:, :-1], -1)], dim=1)
    after = torch.cat([times[:, 1:], none if asked is None else asked.timestamps[:, None]], dim=1)
    return {
        "gap": _gap_places(before, times),
        "scene": _label_places(histories.scenes, times),
        "device": _label_places(histories.devices, times),
        "asked_gap": _gap_places(times, after),
        "asked_scene": _next(_label_places(histories.scenes, times), None if asked is None else asked.scenes),
        "asked_device": _next(_label_places(histories.devices, times), None if asked is None else asked.devices),
    }


def _action_rows(config: ModelConfig) -> dict[str, int]:
    rows = {"kind": len(ACTIONS)} if config.actions else {}
    return rows | ({"value": len(ACTIONS) * VALUE_BUCKETS} if config.values else {})


def _context_rows(config: ModelConfig) -> dict[str, int]:
    rows = {"gap": TIME_BUCKETS + 1} if config.time_gaps else {}
    if config.contexts:
        rows |= {"scene": HASH_BUCKETS + 1, "device": HASH_BUCKETS + 1}
    if config.asked:
        rows |= {"asked_gap": TIME_BUCKETS + 1}
    if config.asked and config.contexts:
        rows |= {"asked_scene": HASH_BUCKETS + 1, "asked_device": HASH_BUCKETS + 1}
    return rows


def _tables(rows: dict[str, int], width: int) -> nn.ModuleDict:
    return nn.ModuleDict({name: small_embedding(count, width) for name, count in rows.items()})


def _summed(tables: nn.ModuleDict, places: dict[str, Tensor], mask: Tensor) -> Tensor:
    return torch.stack([table(places[name][mask]) for name, table in tables.items()]).sum(dim=0)


def _gap_places(earlier: Tensor, later: Tensor) -> Tensor:
    """0 where one of the moments is not known (-1), else 1 + the bucket of the gap."""
    known = (earlier >= 0) & (later >= 0)
    return torch.where(known, 1 + gap_bucket((later - earlier).clamp(min=0)), 0)


def _label_places(codes: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if codes is None else hash_bucket(codes)


def _next(places: Tensor, asked: Tensor | None) -> Tensor:
    newest = torch.zeros_like(places[:, :1]) if asked is None else hash_bucket(asked)[:, None]
    return torch.cat([places[:, 1:], newest], dim=1)
