"""What tasks say of items: their semantic ids, titles and descriptions as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asterism.core import records
from asterism.core.progress import track
from asterism.models.llm import LLM
from asterism.models.llm.tokenizers import text_tokens
from asterism.training.sft.example import Writer

_TITLE_TOKENS: Final = 48
_DESCRIPTION_TOKENS: Final = 128


class Phrases:
    """The catalogue in the words of one language model."""

    def __init__(self, model: LLM, items: pa.Table) -> None:
        self.prompt = model.prompt
        self.max_events = model.max_events
        self.context = model.max_prompt + model.spoken
        self.paths: list[list[int]] = model.paths.tolist()
        self.codes: NDArray[np.int64] = model.codes.cpu().numpy()
        self._spoken = model.spoken
        self._tokenizer = model.tokenizer
        self._items = items
        end = model.tokenizer.eos_token_id
        self.end: list[int] = [] if end is None else [end]

    def text(self, text: str) -> list[int]:
        """Any text as tokens."""
        return text_tokens(self._tokenizer, text)

    def titles(self) -> list[list[int]]:
        """Each item's title; empty where it has none."""
        return self._column(records.TITLE, _TITLE_TOKENS)

    def descriptions(self) -> list[list[int]]:
        """The beginning of each item's description; empty where it has none."""
        return self._column(records.DESCRIPTION, _DESCRIPTION_TOKENS)

    def ask_item(self, writer: Writer, item: int) -> Writer:
        """An item's semantic id as the answer."""
        return writer.ask_codes(self.paths[item], self.codes[item].tolist())

    def room_beside(self, *others: Sequence[int]) -> int:
        """How many tokens the context has left beside some that must be in it."""
        return max(0, self.context - sum(len(one) for one in others))

    def history(self, items: Sequence[int], room: int | None = None) -> list[int]:
        """The prompt for the newest events of a history, as the policy writes it.

        As many as fit into `room` tokens, but at least one; without `room`, as many as the policy reads.
        """
        events = self.max_events
        if room is not None:
            events = max(1, min(events, self.prompt.events_within(room, self._spoken)))
        tokens = list(self.prompt.head)
        for place, item in enumerate(items[-events:]):
            tokens += [*(self.prompt.separator if place else ()), *self.paths[item]]
        return [*tokens, *self.prompt.tail]

    def _column(self, name: str, longest: int) -> list[list[int]]:
        if name not in self._items.column_names:
            return [[] for _ in self.paths]
        texts = self._items[name].to_pylist()
        return [self.text(one or "")[:longest] for one in track(texts, f"reading {name}s")]
