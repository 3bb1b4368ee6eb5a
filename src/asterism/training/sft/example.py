"""One supervised example: tokens, and which of them are the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

GIVEN: Final = -2  # a token that is read and not asked for
TEXT: Final = -1  # a token of text, asked for among the whole vocabulary; levels count from 0


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens and, for each of them, what it is asked for as."""

    tokens: NDArray[np.int32]  # (T,)
    asked: NDArray[np.int8]  # (T,) GIVEN, TEXT, or the level of a code
    targets: NDArray[np.int32]  # (T,) the token where text is asked for, the code where a code is
    weight: float  # of each asked token in the loss

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def answers(self) -> int:
        """How many tokens are asked for."""
        return int((self.asked != GIVEN).sum())


@dataclass(slots=True)
class Writer:
    """Puts an example together from left to right."""

    tokens: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def give(self, tokens: Sequence[int]) -> Writer:
        """Tokens that are only read."""
        return self._add(tokens, [GIVEN] * len(tokens), [0] * len(tokens))

    def ask_text(self, tokens: Sequence[int]) -> Writer:
        """Tokens of text that are the answer."""
        return self._add(tokens, [TEXT] * len(tokens), tokens)

    def ask_codes(self, tokens: Sequence[int], codes: Sequence[int]) -> Writer:
        """An item's tokens as the answer: each is asked for among the codes of its level."""
        return self._add(tokens, range(len(tokens)), codes[: len(tokens)])

    def done(self, weight: float) -> Example:
        """The example; its first token has nothing before it, so it is given."""
        asked = np.array(self.asked, dtype=np.int8)
        asked[:1] = GIVEN
        return Example(np.array(self.tokens, np.int32), asked, np.array(self.targets, np.int32), weight)

    def _add(self, tokens: Sequence[int], asked: Sequence[int], targets: Sequence[int]) -> Writer:
        self.tokens.extend(tokens)
        self.asked.extend(asked)
        self.targets.extend(targets)
        return self
