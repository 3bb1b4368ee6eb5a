"""A trained LLM on disk: a folder as the transformers library reads it, and how we ask it beside that."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from asterism.config.llm import LLMConfig
from asterism.core.errors import BundleError, ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.models.llm.backbone import open_model
from asterism.models.llm.model import LLM, LanguageModel
from asterism.models.llm.tokenizers import save_tokenizer

KIND = "llm"


def save_llm(model: LLM, folder: Path, description: Path) -> None:
    """Write weights, configuration and tokenizer into `folder`, and the prompt and shape of codes as JSON.

    Adapters and rows that were trained apart are merged into the weights first.
    """
    model.merge()
    model.language.save_pretrained(str(folder))
    save_tokenizer(model.tokenizer, folder)
    about = {
        "kind": KIND,
        "llm": model.config.model_dump(),
        "max_events": model.max_events,
        "codebook_sizes": list(model.codebook_sizes),
        "items": len(model.codes),
    }
    description.write_text(json.dumps(about, indent=2), encoding="utf-8")


def load_llm(folder: Path, description: Path, table: SemanticIdTable) -> LLM:
    """Read an LLM for inference; raises `BundleError` where model, tokenizer and catalogue do not fit."""
    try:
        raw = json.loads(description.read_text(encoding="utf-8"))
        config = LLMConfig.model_validate(raw["llm"])
        max_events, sizes, items = int(raw["max_events"]), tuple(raw["codebook_sizes"]), int(raw["items"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise BundleError(f"{description} does not describe an LLM ({error}); train the bundle again") from error
    if (sizes, items) != (table.codebook_sizes, len(table)):
        raise BundleError(
            f"{description}: the model knows {items} items with codes of sizes {sizes}, the semantic ids are of "
            f"{len(table)} items with {table.codebook_sizes}"
        )
    try:
        causal, tokenizer = open_model(str(folder))
        return LLM(LanguageModel(causal, tokenizer, str(folder)), table, config, max_events).eval()
    except ModelError as error:
        raise BundleError(f"{error}; train the bundle again") from error
