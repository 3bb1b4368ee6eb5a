"""A run configuration as commented TOML: every key, its value, and what it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import BaseModel

from asterism.config.run import RunConfig

_COMMENT_COLUMN = 44

COMMENTS = {
    "name": "what the run is called",
    "seed": "same seed, same result on one machine",
    "data.path": "folder of a data set, instead of single files",
    "data.interactions": "who did what when; relative to this file's folder",
    "data.items": "the catalogue",
    "data.users": "attributes of users",
    "data.split": "leave_one_out, by_time or by_column (the column `split`)",
    "data.validation_share": "by_time only: share of events before the test part",
    "data.test_share": "by_time only: share of the newest events",
    "embeddings.text_model": "a sentence encoder's name or folder, or tfidf",
    "embeddings.text_fields": "item columns that make an item's text; absent ones are skipped",
    "embeddings.fields_by_kind.product": "columns for the items of this kind, instead of text_fields",
    "embeddings.fields_by_kind.video": "any column may be named",
    "embeddings.fields_by_kind.article": "the first 600 characters of each are read",
    "embeddings.fields_by_kind.music": "in this order",
    "embeddings.fields_by_kind.movie": "an item without a kind takes text_fields",
    "embeddings.text_weight": "of the text part in an item's vector; 0 leaves it out",
    "embeddings.image_model": "folder of a CLIP-type model for the column image; no image part while commented out",
    "embeddings.image_weight": "of the image part",
    "embeddings.collaborative_weight": "of who touched the item; 0 leaves it out",
    "embeddings.structured_weight": "of price, brand, kind; 0 leaves it out",
    "embeddings.precomputed": "your own vectors: column embedding_<name> = weight",
    "embeddings.width": "numbers in an item's vector",
    "embeddings.fusion": "linear, or contrastive: also learn that items consumed together lie together",
    "semantic_ids.method": "rq-kmeans, balanced-rq-kmeans, rq-vae, rq-kmeans+, opq or simhash",
    "semantic_ids.levels": "codes in a semantic id, the de-duplication code included",
    "semantic_ids.codes": "different codes a level; grows with the catalogue",
    "semantic_ids.iterations": "of the clustering",
    "semantic_ids.epochs": "rq-vae and rq-kmeans+ only: passes over the items, at most",
    "semantic_ids.codebook_update": "rq-vae and rq-kmeans+ only: ema (moving averages) or gradient",
    "semantic_ids.reassign_colliding": "items that share all codes move to free codes nearby, before de-duplication",
    "semantic_ids.like": "an earlier bundle whose ids items keep if they can; relative to this file's folder",
    "model.kind": "ugt, or llm: a causal language model, for which of this section max_events alone counts",
    "model.width": "of the transformer's state",
    "model.blocks": "layers",
    "model.heads": "attention heads a layer",
    "model.max_events": "newest events of a history that are read one by one",
    "model.dropout": "higher for fewer events",
    "model.id_vectors": "learn one vector an item beside its codes",
    "model.content": "feed the item's vector in",
    "model.recency_pooling": "the mean direction of the newest items beside the state, for the item head",
    "model.actions": "feed the kind of action in",
    "model.values": "feed ratings and dwell seconds in, in logarithmic steps",
    "model.time_gaps": "feed the time since the event before in",
    "model.contexts": "feed scene and device in",
    "model.asked": "feed in how long ago the newest event was; with contexts, where is asked",
    "model.user_attributes": "a token of the user's attributes before the events",
    "model.group_norm": "normalise item, action, context, user and windows apart",
    "model.experts": "feed-forward networks a block; 0 has none, 1 a plain one",
    "model.expert_top_k": "experts that a token asks, where there are several",
    "model.summaries": "windows over events older than the newest max_events; 0 has none",
    "model.max_history": "events read in all, where there are summaries; at most 10000",
    "llm.base": "folder or hub name of a causal language model; llm.shape is built while commented out",
    "llm.mode": "full, lora, embeddings (of the semantic ids alone) or none",
    "llm.lora_rank": "of the adapters, where mode is lora",
    "llm.prompt": "text around {history}, the history's semantic ids",
    "llm.separator": "text between two items of the history",
    "llm.max_prompt_tokens": "the oldest events are left out of a longer prompt",
    "llm.batch_tokens": "tokens a step, examples packed into rows",
    "llm.index": "MiniOneRec's <name>.index.json: the semantic ids that the base was trained with",
    "llm.shape.family": "llama, qwen2 or qwen3",
    "llm.shape.width": "of the states",
    "llm.shape.layers": "blocks",
    "llm.shape.heads": "attention heads a layer",
    "llm.shape.key_value_heads": "fewer than heads share keys and values",
    "llm.shape.feed_forward": "width inside the feed-forward networks",
    "llm.shape.vocabulary": "tokens of text, at most; semantic ids come on top",
    "llm.shape.context": "positions",
    "llm.shape.dropout": "of attention weights, in training",
    "llm.shape.tied": "one matrix for input and output embeddings",
    "llm.tasks.next_item": "weight: semantic ids of the history → that of the next item",
    "llm.tasks.title_to_item": "weight: title → semantic id",
    "llm.tasks.item_to_title": "weight: semantic id → title",
    "llm.tasks.next_title": "weight: semantic ids of the history → title of the next item",
    "llm.tasks.next_item_by_titles": "weight: titles and semantic ids of the history → semantic id of the next item",
    "llm.tasks.description_to_item": "weight: description → semantic id",
    "training.epochs": "passes over the users, at most",
    "training.patience": "validations without a better NDCG@10 before stopping",
    "training.batch_users": "users a step",
    "training.learning_rate": "peak of the schedule",
    "training.weight_decay": "of AdamW",
    "training.warmup_steps": "steps until the peak",
    "training.item_loss_weight": "of the item-level loss",
    "training.code_loss_weight": "of the loss over codes",
    "training.negatives": "items drawn for the item loss; 0 takes the whole catalogue",
    "training.negative_sampling": "uniform, popularity, in_batch or mixed; all but uniform corrected by logQ",
    "training.alignment_weight": "of the cosine between an item's vector and its content; 0 leaves it out",
    "training.load_balance_weight": "of how unevenly the model's experts are asked, if it has any",
    "training.preference_weight": "of pairs: acted on above ignored, skipped or disliked; needs such rows",
    "training.temperature": "of all cosines: item head and codes",
    "training.average_epochs": "weights are averaged over about the steps of so many epochs; 0 averages none",
    "training.max_minutes": "stop after this time; no limit while commented out",
    "training.precision": "fp32 or bf16",
    "decoding.beam": "paths kept while generating",
    "decoding.kept": "of the generated items, by the item score, before the other scores are taken; 0 keeps all",
    "decoding.item_weight": "of the item score in the final order",
    "decoding.code_weight": "of the path's log-probability in the final order",
    "decoding.content_weight": "of the likeness to the newest events' content in the final order",
    "decoding.neighbour_weight": "of what others took beside and after the newest events, in the final order",
    "decoding.choose_weights": "find the four weights on validation after training",
    "decoding.precision": "fp32, or bf16: faster answers from a CPU that multiplies it; int8",
    "evaluation.cutoffs": "lengths of list at which metrics are taken",
    "evaluation.bootstrap_samples": "for confidence intervals",
    "evaluation.validation_cases": "validate on a sample of this many; on all while commented out",
    "alignment.method": "of `asterism align`: dpo or grpo",
    "alignment.score": "served (item head and codes as in the final order) or codes",
    "alignment.newest": "newest training events of a user that are asked for",
    "alignment.held_out": "share of the validation cases asked for instead; the others steer. 0: training events",
    "alignment.mode": "language models: full, lora or embeddings learn; by default as in training",
    "alignment.candidates": "items of a question's beam",
    "alignment.epochs": "passes over the questions, at most",
    "alignment.patience": "validations without a gain before stopping",
    "alignment.validations": "an epoch",
    "alignment.batch_users": "questions a step",
    "alignment.learning_rate": "small: alignment easily hurts",
    "alignment.dropout": "the model's own, while aligning",
    "alignment.significance": "p of the gain on validation at which the start is replaced; 1 takes any gain",
    "alignment.max_kl": "divergence from the start at which alignment stops; the best before it is kept",
    "alignment.hold_diversity": "take no weights whose lists are less diverse than the start's",
    "alignment.beta": "dpo: how much a margin over the reference's counts",
    "alignment.rejected": "dpo: logged (skipped, ignored, liked less), beam (the model's own) or both",
    "alignment.softmax": "dpo: all rejected items at once; false takes pairs",
    "alignment.label_smoothing": "dpo, with softmax = false: share of them taken to be the wrong way round",
    "alignment.group": "grpo: items of a group",
    "alignment.rollouts": "grpo: beam (the best, all different) or sample",
    "alignment.keep_truth": "grpo: the item that was taken is in its group",
    "alignment.by_deviation": "grpo: advantages over the group's standard deviation",
    "alignment.updates": "grpo: steps a group is used for",
    "alignment.ratio": "grpo: token, or sequence (GSPO)",
    "alignment.clip_low": "grpo: how far a ratio may fall",
    "alignment.clip_high": "grpo: how far a ratio may rise; higher is DAPO's",
    "alignment.kl_weight": "grpo: of the divergence from the start",
    "alignment.rewards.hit": "the item that was taken",
    "alignment.rewards.rank": "against wrong items, the more the higher they stood",
    "alignment.rewards.semantic": "likeness of vectors to the item that was taken",
    "alignment.rewards.collaborative": "users shared with the item that was taken",
    "alignment.rewards.action": "a hit by what was done: click 1, cart 2, purchase 3",
    "alignment.rewards.variety": "unlike the rest of its group",
}
_EXAMPLES: dict[str, object] = {
    "data.path": "my-data",
    "data.items": "items.csv",
    "data.users": "users.csv",
    "embeddings.image_model": "models/clip",
    "semantic_ids.like": "runs/yesterday",
    "llm.base": "models/qwen",
    "llm.index": "models/qwen/items.index.json",
    "training.max_minutes": 30.0,
    "evaluation.validation_cases": 5_000,
}


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen for a data set, and the counts that it follows from."""

    users: int
    items: int
    events: int
    split: str
    values: dict[str, object]  # "section.key" → value
    renamed: dict[str, dict[str, str]] = field(default_factory=dict)  # table → {name in the file: canonical}
    trainable: bool = True  # whether some split leaves enough to learn from and to ask


def render_config(name: str, files: dict[str, str], choices: Choices) -> str:
    """The whole configuration as TOML; a key that has no comment here is left to its default."""
    chosen = {
        "name": name,
        **{f"data.{key}": value for key, value in files.items()},
        "data.split": choices.split,
        **choices.values,
    }
    lines = [*_heading(choices), *_keys(RunConfig, "", chosen)]
    for section, model in _sections():
        lines += ["", f"[{section}]", *_keys(model, f"{section}.", chosen)]
    return "\n".join(lines) + "\n"


def _heading(choices: Choices) -> Iterator[str]:
    counts = f"{choices.users:,} users, {choices.items:,} items, {choices.events:,} events"
    yield f"# Written by `asterism init` for {counts}."
    for table, names in choices.renamed.items():
        for old, new in names.items():
            yield f"# {table}: the column {json.dumps(old, ensure_ascii=False)} is read as `{new}`"
    yield ""


def _sections(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    for name, one in model.model_fields.items():
        if isinstance(one.annotation, type) and issubclass(one.annotation, BaseModel):
            yield f"{prefix}{name}", one.annotation
            yield from _sections(one.annotation, f"{prefix}{name}.")


def _keys(model: type[BaseModel], prefix: str, chosen: dict[str, object]) -> Iterator[str]:
    for name, one in model.model_fields.items():
        key = f"{prefix}{name}"
        if key in COMMENTS:
            value = chosen.get(key, one.get_default(call_default_factory=True))
            yield _line(name, value, COMMENTS[key], _EXAMPLES.get(key))


def _line(name: str, value: object, comment: str, example: object) -> str:
    setting = f"# {name} = {_toml(example)}" if value is None else f"{name} = {_toml(value)}"
    return f"{setting:<{_COMMENT_COLUMN}}  # {comment}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)
