"""Tokenizers: one trained on a catalogue's texts, or the one in a model's folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asterism.core.errors import MissingDependencyError

END = "<|end|>"
PADDING = "<|padding|>"


def require_transformers() -> None:
    """Import the library, without its bars of progress; raises `MissingDependencyError` where it is not there."""
    try:
        from transformers.utils import logging
    except ImportError as error:
        raise MissingDependencyError(
            "a language model needs transformers; run `pip install 'asterism[llm]'`"
        ) from error
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> Any:
    """Byte-pair encoding (Sennrich et al. 2016) over bytes, so that no text is unknown; equal texts, equal tokens."""
    require_transformers()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[END, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, eos_token=END, pad_token=PADDING, model_max_length=context
    )


def start_tokens(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text, if it does."""
    start = tokenizer.bos_token_id
    return [start] if start is not None and tokenizer("").input_ids[:1] == [start] else []


def text_tokens(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a piece of text, with nothing before or behind."""
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids if text else []
    return ids


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer in the library's own format."""
    tokenizer.save_pretrained(str(folder))
