"""Small language models with random weights, and a catalogue whose titles they can spell."""

from __future__ import annotations

import numpy as np
import torch

from asterism.config import LLMConfig, LLMShape
from asterism.core.semantic_id import SemanticIdTable
from asterism.models.llm import LLM, LanguageModel
from asterism.models.llm.backbone import build_model
from asterism.models.llm.tokenizers import train_tokenizer
from asterism.models.llm.vocabulary import add_code_tokens

ITEMS = 12
SIZES = (3, 4, 2)
CODES = np.array([[item // 4, item % 4, 0] for item in range(ITEMS)])
WORDS = ("red", "green", "blue", "lamp", "chair", "table", "wood", "steel")
TITLES = [f"{WORDS[item % 3]} {WORDS[3 + item % 3]} of {WORDS[6 + item % 2]} number {item}" for item in range(ITEMS)]
FAMILIES = ("llama", "qwen2", "qwen3")


def make_table() -> SemanticIdTable:
    return SemanticIdTable(CODES, SIZES)


def make_shape(**changes: object) -> LLMShape:
    values: dict[str, object] = {"width": 32, "layers": 2, "feed_forward": 48, "vocabulary": 320, "context": 64}
    return LLMShape.model_validate({**values, "key_value_heads": 2, **changes})


def make_language(shape: LLMShape, seed: int = 0) -> LanguageModel:
    """A model whose weights are large enough that every part of it shows."""
    tokenizer = train_tokenizer(TITLES, shape.vocabulary, shape.context)
    add_code_tokens(tokenizer, SIZES)
    torch.manual_seed(seed)
    model = build_model(shape, tokenizer)
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one) * 0.2)
    return LanguageModel(model.eval(), tokenizer, "a test")


def make_llm(shape: LLMShape | None = None, max_events: int = 5, **changes: object) -> LLM:
    config = LLMConfig.model_validate({"prompt": "history: {history}", "max_prompt_tokens": 60, **changes})
    return LLM(make_language(shape or make_shape()), make_table(), config, max_events).eval()
