"""New rows of the embedding matrices, for tokens that the model has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from asterism.models.llm.tokenizers import text_tokens
from asterism.models.llm.vocabulary import CodeTokens

_STEP: Final = 0.1  # of a direction's length


@torch.no_grad()
def grow_embeddings(
    model: Any, tokenizer: Any, tokens: CodeTokens, codes: NDArray[np.integer], titles: Sequence[str | None]
) -> None:
    """Make room for all tokens of the tokenizer, and put each code's rows near the words of the items that carry it.

    A code starts in the direction of the mean embedding of its items' title tokens, as long as the vocabulary's rows
    are on average. One that no titled item carries starts near that of all titled items, or of all words where there
    are none, by a random step, so that no two are alike. The same is done to the output head where it has a matrix of
    its own. `codes` (N, levels) and `titles` belong to the same items.
    """
    old = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > old:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    words = _WordsOfItems(tokenizer, titles, known=min(old, _first_code(tokens)))
    for weight in matrices(model):
        items, elsewhere = words.means(weight), words.mean(weight)
        length = weight[: words.known].norm(dim=1).mean()
        for level, ids in enumerate(tokens.ids):
            directions = _directions(items, words.titled, codes[:, level], len(ids), elsewhere)
            known = ids >= 0
            weight[ids[known]] = (directions * length)[known].to(weight.dtype)


def matrices(model: Any) -> list[Tensor]:
    """The input embeddings, and the output head where it is not the same matrix."""
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [inputs] if outputs is inputs else [inputs, outputs]


class _WordsOfItems:
    """The tokens of all items' titles, flat."""

    def __init__(self, tokenizer: Any, titles: Sequence[str | None], known: int) -> None:
        spelled = [[one for one in text_tokens(tokenizer, title or "") if one < known] for title in titles]
        self.known = known  # rows of the vocabulary that mean something already
        self._lengths = torch.tensor([len(one) for one in spelled])
        self.titled = self._lengths > 0  # (N,)
        self._tokens = torch.tensor([one for tokens in spelled for one in tokens], dtype=torch.long)

    def means(self, weight: Tensor) -> Tensor:
        """(N, D) the mean row of each item's title tokens; zeros of an item without any."""
        offsets = torch.cumsum(self._lengths, 0) - self._lengths
        rows = weight[: self.known].float().cpu()
        if len(self._tokens) == 0:
            return rows.new_zeros(len(offsets), rows.shape[1])
        return functional.embedding_bag(self._tokens, rows, offsets, mode="mean")

    def mean(self, weight: Tensor) -> Tensor:
        """(D,) the mean of the titled items' rows, of all words where no item is titled."""
        known = self.means(weight)[self.titled] if self.titled.any() else weight[: self.known].float().cpu()
        return known.mean(dim=0)


def _directions(items: Tensor, titled: Tensor, codes: NDArray[np.integer], size: int, elsewhere: Tensor) -> Tensor:
    """(size, D) of length one: the mean over each code's titled items; a step off `elsewhere` where a code has none."""
    asked = torch.from_numpy(np.ascontiguousarray(codes)).long()[titled]
    sums = items.new_zeros(size, items.shape[1]).index_add_(0, asked, items[titled])
    lonely = (torch.bincount(asked, minlength=size) == 0)[:, None]
    steps = _STEP * functional.normalize(torch.randn(size, items.shape[1]), dim=1)
    return functional.normalize(torch.where(lonely, functional.normalize(elsewhere, dim=0) + steps, sums), dim=1)


def _first_code(tokens: CodeTokens) -> int:
    """The lowest id of a code's token: what lies behind it were no words before."""
    return min(int(ids[ids >= 0].min()) for ids in tokens.ids)
