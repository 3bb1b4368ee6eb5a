"""A causal language model as a policy: prompts are encoded once, codes are asked of the rows of their own level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.config.llm import LLMConfig, TrainingMode
from asterism.core.errors import ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.models.histories import HistoryBatch, HistoryLayout
from asterism.models.llm.backbone import context_of, decoder_of
from asterism.models.llm.modes import make_trainable, merge
from asterism.models.llm.paths import path_states
from asterism.models.llm.prompts import Prompt
from asterism.models.llm.rows import head_rows
from asterism.models.llm.state import StateShape, UserState
from asterism.models.llm.vocabulary import code_tokens
from asterism.models.paths import item_log_probs

_PATHS_AT_ONCE: Final = 64  # continuations of one prompt in a pass: each looks past all others
_STATE_NUMBERS: Final = 1 << 27  # of all states that are held at once: 512 MiB


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model with its tokenizer, and where it came from."""

    causal: Any
    tokenizer: Any
    source: str


class LLM(nn.Module):
    """A causal language model over semantic ids; implements `asterism.models.policy.Policy`.

    A state (B, S) is opaque: the prompt's last hidden vector and its keys and values. States of prompts of different
    lengths differ in width, and may be padded with zeros on the right. The item score is log p(item | history), the
    sum of the log-probabilities of its codes.
    """

    paths: Tensor  # (N, spoken) tokens of the items
    codes: Tensor  # (N, levels)

    def __init__(self, language: LanguageModel, table: SemanticIdTable, config: LLMConfig, max_events: int) -> None:
        """Raise `ModelError` where the tokenizer lacks the table's tokens, `ConfigError` where no event fits."""
        super().__init__()
        self.causal: Any = language.causal
        self._adapters: Any = None  # of peft; their weights are inside `causal`
        self.tokenizer = language.tokenizer
        self.config = config
        tokens = code_tokens(language.tokenizer, table, language.source)
        self.register_buffer("paths", tokens.of_paths(table.codes), persistent=False)
        self.register_buffer("codes", torch.from_numpy(table.codes).long(), persistent=False)
        for level, ids in enumerate(tokens.ids):
            self.register_buffer(f"level_{level}", ids, persistent=False)
        self.spoken = tokens.spoken
        self._codebook_sizes = table.codebook_sizes
        self.prompt = Prompt.of(config, language.tokenizer)
        self.max_prompt = min(config.max_prompt_tokens, context_of(language.causal) - self.spoken)
        self._max_events = min(max_events, self.prompt.events_that_fit(self.max_prompt, self.spoken))
        inner = language.causal.config
        heads = getattr(inner, "num_key_value_heads", None) or inner.num_attention_heads
        head_width = getattr(inner, "head_dim", None) or inner.hidden_size // inner.num_attention_heads
        self.state_shape = StateShape(inner.hidden_size, inner.num_hidden_layers, heads, head_width)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level, coarse to fine."""
        return self._codebook_sizes

    @property
    def max_events(self) -> int:
        """How many newest events the model reads: no more than the prompt has room for."""
        return self._max_events

    @property
    def layout(self) -> HistoryLayout:
        """What of a history the model reads."""
        return HistoryLayout(self._max_events)

    @property
    def rows_at_once(self) -> int:
        """How many users' states fit into the memory that is meant for them."""
        return max(1, _STATE_NUMBERS // (self.max_prompt * self.state_shape.per_token))

    def level_ids(self, level: int) -> Tensor:
        """(codes,) the tokens of a spoken level, -1 of a code without one."""
        return self.get_buffer(f"level_{level}")

    @property
    def language(self) -> Any:
        """The model of the transformers library."""
        return self.causal

    def make_trainable(self, mode: TrainingMode | None = None) -> None:
        """Let learn what `mode`, or else the configured one, says; the rest is frozen.

        Raises `MissingDependencyError`.
        """
        chosen = mode or self.config.mode
        self._adapters = make_trainable(self.causal, self.code_ids(), chosen, self.config.lora_rank)

    def merge(self) -> None:
        """Make `language` a plain model again; it computes what it did before."""
        merge(self.causal, self._adapters)
        self._adapters = None

    def code_ids(self) -> Tensor:
        """(n,) the tokens of all codes of all spoken levels."""
        ids = torch.cat([self.level_ids(level) for level in range(self.spoken)])
        return ids[ids >= 0]

    def encode(self, histories: HistoryBatch) -> Tensor:
        """(B, S) states; a user without events gets the state of the prompt's fixed text."""
        if histories.items.shape[1] > self._max_events:
            raise ModelError(
                f"a history of {histories.items.shape[1]} events is longer than the {self._max_events} read"
            )
        prompts = self.prompt.write(histories.items, self.paths)
        found = decoder_of(self.causal)(input_ids=prompts.tokens, use_cache=True)
        ends = (prompts.lengths - 1)[:, None, None].expand(-1, 1, found.last_hidden_state.shape[2])
        last = found.last_hidden_state.gather(1, ends)[:, 0]
        caches = [(layer.keys, layer.values) for layer in found.past_key_values.layers]
        return self.state_shape.pack(last, caches, prompts.lengths)

    def next_code_log_probs(self, state: Tensor, prefixes: Tensor) -> Tensor:
        """(B, S) states, (B, W, l) prefixes → (B, W, codes of level l) log-probabilities."""
        rows, width, level = prefixes.shape
        if level >= self.spoken:  # nothing is said of twins: each code, taken or not, has an even part
            size = self._codebook_sizes[level]
            return state.new_full((rows, width, size), -math.log(size))
        user = self.state_shape.unpack(state)
        if level == 0:
            return self.code_log_probs(user.last, 0)[:, None].expand(-1, width, -1)
        tokens = self._tokens_of(prefixes)
        parts = [path_states(self.causal, user, part)[:, :, -1] for part in _blocks(tokens)]
        return self.code_log_probs(torch.cat(parts, dim=1), level)

    def code_log_probs(self, hidden: Tensor, level: int) -> Tensor:
        """(..., D) hidden vectors → (..., codes) log-probabilities over the codes of a spoken level alone."""
        ids = self.level_ids(level)
        weight, bias = head_rows(self.causal, ids.clamp(min=0))
        logits = functional.linear(hidden, weight, bias).masked_fill(ids < 0, -torch.inf)
        return functional.log_softmax(logits.float(), dim=-1)

    def item_scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """log p(item | history): (B, N), or (B, C) for candidates (B, C).

        All items cost a pass over all paths of the catalogue; candidates cost theirs.
        """
        if items is None:
            items = torch.arange(len(self.codes), device=state.device).expand(len(state), -1)
        return item_log_probs(self, state, self.codes[items])

    def path_log_probs(self, state: Tensor, paths: Tensor) -> Tensor:
        """(B, S) states, (B, C, levels) codes → (B, C, levels) log p(code | the codes before it), in one pass."""
        user = self.state_shape.unpack(state)
        first = self.code_log_probs(user.last, 0).gather(1, paths[:, :, 0])[:, :, None]
        later = torch.cat([self._later_levels(user, part) for part in _blocks(paths)], dim=1)
        silent = [first.new_full(first.shape, -math.log(size)) for size in self._codebook_sizes[self.spoken :]]
        return torch.cat([first, later, *silent], dim=2)

    def _later_levels(self, user: UserState, paths: Tensor) -> Tensor:
        """(B, C, spoken − 1) log-probabilities of the spoken levels below the first."""
        if self.spoken == 1:
            return user.last.new_zeros((*paths.shape[:2], 0))
        hidden = path_states(self.causal, user, self._tokens_of(paths[:, :, : self.spoken - 1]))
        of_levels = [
            self.code_log_probs(hidden[:, :, level - 1], level).gather(2, paths[:, :, level, None])
            for level in range(1, self.spoken)
        ]
        return torch.cat(of_levels, dim=2)

    def _tokens_of(self, codes: Tensor) -> Tensor:
        levels = range(codes.shape[-1])
        return torch.stack([self.level_ids(level)[codes[..., level]] for level in levels], dim=-1).clamp(min=0)


def _blocks(paths: Tensor) -> Sequence[Tensor]:
    """(B, W, ...) in pieces of W that go through the model together."""
    return torch.split(paths, _PATHS_AT_ONCE, dim=1)
