"""From histories of item indices to tokens: the prompt's text around the semantic ids of the events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asterism.config.llm import HISTORY_PLACE, LLMConfig
from asterism.core.errors import ConfigError
from asterism.models.llm.tokenizers import start_tokens, text_tokens


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Rows of tokens that end at their own lengths."""

    tokens: Tensor  # (B, T) long; what stands behind a row's length is padding
    lengths: Tensor  # (B,) long, at least 1


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt's fixed parts as tokens."""

    head: tuple[int, ...]
    separator: tuple[int, ...]
    tail: tuple[int, ...]

    @classmethod
    def of(cls, config: LLMConfig, tokenizer: Any) -> Prompt:
        """The configured prompt; what would be empty without a history stands on the tokenizer's end mark."""
        before, after = config.prompt.split(HISTORY_PLACE)
        head = [*start_tokens(tokenizer), *text_tokens(tokenizer, before)]
        if not head and not after:
            head = [tokenizer.eos_token_id or 0]
        return cls(tuple(head), tuple(text_tokens(tokenizer, config.separator)), tuple(text_tokens(tokenizer, after)))

    def events_that_fit(self, tokens: int, tokens_per_item: int) -> int:
        """How many newest events a prompt of so many tokens holds; raises `ConfigError` where not even one fits."""
        events = self.events_within(tokens, tokens_per_item)
        if events < 1:
            needed = len(self.head) + len(self.tail) + tokens_per_item
            raise ConfigError(
                f"the prompt needs {needed} tokens for one event, and {tokens} are left for it by "
                "`llm.max_prompt_tokens` and the model's context; raise the former, or shorten `llm.prompt`"
            )
        return events

    def events_within(self, tokens: int, tokens_per_item: int) -> int:
        """How many events a prompt of so many tokens holds, 0 where there is room for none."""
        fixed = len(self.head) + len(self.tail) - len(self.separator)
        return max(0, (tokens - fixed) // (tokens_per_item + len(self.separator)))

    def write(self, items: Tensor, paths: Tensor) -> PromptTokens:
        """(B, T) item indices, -1 where there is no event, and (N, spoken) tokens of all items → prompts."""
        rows, events = items.shape
        real = items >= 0
        separator = items.new_tensor(self.separator).expand(rows, events, -1)
        of_items = torch.cat([separator, paths[items.clamp(min=0)]], dim=2)
        written = real[:, :, None].expand(of_items.shape).clone()
        first = real & (real.cumsum(dim=1) == 1)
        written[:, :, : len(self.separator)] &= ~first[:, :, None]
        head, tail = (items.new_tensor(part).expand(rows, -1) for part in (self.head, self.tail))
        tokens = torch.cat([head, of_items.flatten(1), tail], dim=1)
        kept = torch.cat([head >= 0, written.flatten(1), tail >= 0], dim=1)
        lengths = kept.sum(dim=1)
        order = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, : int(lengths.max())]
        return PromptTokens(tokens.gather(1, order), lengths)
