"""Semantic ids as tokens: one `<a_0>`, `<b_17>`, … a code, one letter a level."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import ModelError
from asterism.core.semantic_id import SemanticIdTable

_CODE_TOKEN = re.compile(r"<([a-z])_(\d+)>")


@dataclass(frozen=True, slots=True)
class CodeTokens:
    """The token of each code of the levels that are spoken; a level behind them tells twins apart and has none."""

    codebook_sizes: tuple[int, ...]  # all levels of the table
    ids: tuple[Tensor, ...]  # a level: (codes,) long, -1 of a code that no item has and the tokenizer does not know

    @property
    def spoken(self) -> int:
        """Levels that have tokens."""
        return len(self.ids)

    def of_paths(self, codes: NDArray[np.integer]) -> Tensor:
        """(N, levels) codes → (N, spoken) tokens."""
        asked = torch.from_numpy(np.ascontiguousarray(codes)).long()
        return torch.stack([ids[asked[:, level]] for level, ids in enumerate(self.ids)], dim=1)


def token_names(codebook_sizes: Sequence[int]) -> list[list[str]]:
    """The tokens of each level."""
    letters = [chr(ord("a") + level) for level in range(len(codebook_sizes))]
    return [
        [f"<{letter}_{code}>" for code in range(size)] for letter, size in zip(letters, codebook_sizes, strict=True)
    ]


def add_code_tokens(tokenizer: Any, codebook_sizes: Sequence[int]) -> int:
    """Let a tokenizer know all codes of all levels, as far as it does not; returns how many were new."""
    return int(tokenizer.add_tokens([name for level in token_names(codebook_sizes) for name in level]))


def has_code_tokens(tokenizer: Any) -> bool:
    """Whether a tokenizer was grown by semantic ids before."""
    return any(_CODE_TOKEN.fullmatch(name) for name in tokenizer.get_added_vocab())


def code_tokens(tokenizer: Any, table: SemanticIdTable, source: str) -> CodeTokens:
    """Look up the tokens of a table's codes.

    The last level may have none at all, which is how ids look that were made without a level for twins; a code that
    no item has may have none either. Raises `ModelError` naming the tokens that are missing.
    """
    known = tokenizer.get_vocab()
    levels = token_names(table.codebook_sizes)
    if not any(name in known for name in levels[-1]):
        levels = levels[:-1]
    used = [np.unique(table.codes[:, level]) for level in range(len(levels))]
    missing = [
        level[code] for level, codes in zip(levels, used, strict=True) for code in codes if level[code] not in known
    ]
    if missing or not levels:
        raise ModelError(
            f"the tokenizer of {source} lacks {len(missing)} tokens of the catalogue's semantic ids, the first is "
            f"{missing[0] if missing else '<a_0>'}; give the `llm.index` that the model was trained with"
        )
    ids = tuple(torch.tensor([known.get(name, -1) for name in level]) for level in levels)
    return CodeTokens(table.codebook_sizes, ids)
