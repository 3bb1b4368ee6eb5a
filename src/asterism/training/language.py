"""A language model from a configuration: opened or built, grown by the catalogue's semantic ids, and trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from accelerate import PartialState
from accelerate.utils import set_seed

from asterism.config import LLMConfig, RunConfig
from asterism.core import records
from asterism.core.errors import ConfigError
from asterism.core.hashing import hash_array, hash_texts, hash_value
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.split import Split
from asterism.models.llm import LLM, LanguageModel
from asterism.models.llm.backbone import build_model, open_model
from asterism.models.llm.growing import grow_embeddings
from asterism.models.llm.tokenizers import train_tokenizer
from asterism.models.llm.vocabulary import add_code_tokens, code_tokens, has_code_tokens
from asterism.training.identity import data_hashes
from asterism.training.loop import FitResult, Sitting, fit_course
from asterism.training.sft import supervised_course
from asterism.training.validation import validator

_TEXTS = (records.TITLE, records.DESCRIPTION)


@dataclass(frozen=True, slots=True)
class LanguageRun:
    """What a language model is trained on, and where it keeps its work."""

    config: RunConfig
    config_folder: Path  # where a relative `llm.base` starts
    split: Split
    items: pa.Table  # in the order of the item indices
    table: SemanticIdTable
    folder: Path


def train_llm(run: LanguageRun, *, resume: bool) -> tuple[LLM, FitResult]:
    """Train as `llm.mode` says; the model comes back with the weights of its best epoch.

    Raises `ModelError` where the base cannot be loaded or lacks tokens, `ConfigError` where it does not fit the other
    keys, `TrainingError` where there is nothing to learn from or the loss is not finite.
    """
    config = run.config
    set_seed(config.seed)
    language = open_language(config.llm, run.config_folder, run.items, run.table)
    model = LLM(language, run.table, config.llm, config.model.max_events)
    validate = validator(run.split.validation, run.table, config)
    if config.llm.mode == "none":
        found = validate(model.eval())
        return model, FitResult(0, 0, found.ndcg_at_10, 0.0, "nothing was to be trained", PartialState().num_processes)
    model.make_trainable()
    course = supervised_course(model, run.items, run.split.train, config.seed)
    decisive = [*data_hashes(run.split), hash_array(run.table.codes), hash_texts(_texts(run.items))]
    hashed = hash_value([config.model_dump(mode="json"), *decisive])
    sitting = Sitting(config.training, config.seed, run.folder, hashed, lambda: validate(model))
    return model, fit_course(course, sitting, resume=resume)


def open_language(config: LLMConfig, folder: Path, items: pa.Table, table: SemanticIdTable) -> LanguageModel:
    """The configured model and tokenizer, which know all tokens of the table.

    Raises `ModelError` where the base cannot be loaded or lacks tokens, `ConfigError` where it knows other semantic
    ids than the table's.
    """
    if config.base is None:
        return _built(config, items, table)
    source = str(folder / config.base) if (folder / config.base).is_dir() else config.base
    causal, tokenizer = open_model(source)
    if config.index is not None:
        code_tokens(tokenizer, table, source)
    elif has_code_tokens(tokenizer):
        raise ConfigError(
            f"`llm.base` {source} already speaks semantic ids, which are not those made here; name the index of items "
            "that it was trained with as `llm.index`"
        )
    else:
        add_code_tokens(tokenizer, table.codebook_sizes)
        titles = items[records.TITLE].to_pylist() if records.TITLE in items.column_names else [None] * len(table)
        grow_embeddings(causal, tokenizer, code_tokens(tokenizer, table, source), table.codes, titles)
    return LanguageModel(causal, tokenizer, source)


def _built(config: LLMConfig, items: pa.Table, table: SemanticIdTable) -> LanguageModel:
    tokenizer = train_tokenizer(_texts(items), config.shape.vocabulary, config.shape.context)
    add_code_tokens(tokenizer, table.codebook_sizes)
    return LanguageModel(build_model(config.shape, tokenizer), tokenizer, "the configured shape")


def _texts(items: pa.Table) -> Iterator[str]:
    for name in _TEXTS:
        if name in items.column_names:
            yield from (text or "" for text in items[name].to_pylist())
