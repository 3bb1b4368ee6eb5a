"""Many short continuations of one prompt in one pass: each token sees the prompt and its own path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asterism.models.llm.backbone import decoder_of
from asterism.models.llm.state import UserState


def path_states(model: Any, user: UserState, tokens: Tensor) -> Tensor:
    """(B, W, l) tokens of W paths behind each row's prompt → (B, W, l, D) hidden vectors.

    The prompt's keys are shared by the paths, neither copied nor computed again: what is run are the B W l new tokens.
    """
    rows, width, length = tokens.shape
    mask = _visible(user, width, length)
    depths = torch.arange(length, device=tokens.device).repeat(width)
    found = decoder_of(model)(
        input_ids=tokens.flatten(1),
        attention_mask=mask,
        position_ids=user.lengths[:, None] + depths,
        past_key_values=_cache(user),
        use_cache=True,
    )
    states: Tensor = found.last_hidden_state
    return states.view(rows, width, length, -1)


def _visible(user: UserState, width: int, length: int) -> Tensor:
    """(B, 1, W l, T + W l) True where a token may look."""
    device = user.last.device
    prompt_tokens = user.caches[0][0].shape[2]
    real = torch.arange(prompt_tokens, device=device) < user.lengths[:, None]
    path = torch.arange(width, device=device).repeat_interleave(length)
    depth = torch.arange(length, device=device).repeat(width)
    own = (path[:, None] == path) & (depth[:, None] >= depth)
    queries = width * length
    return torch.cat([real[:, None, None].expand(-1, 1, queries, -1), own.expand(len(real), 1, -1, -1)], dim=3)


def _cache(user: UserState) -> Any:
    from transformers import DynamicCache

    return DynamicCache(user.caches)
