"""The sections of a causal language model as the recommender's backbone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from asterism.config.section import Positive, Probability, Section, Weight

Family = Literal["llama", "qwen2", "qwen3"]
TrainingMode = Literal["full", "lora", "embeddings", "none"]

HISTORY_PLACE = "{history}"


class LLMShape(Section):
    """A language model built here, with random weights and a tokenizer trained on the catalogue's texts."""

    family: Family = "qwen3"
    width: Positive = 128
    layers: Positive = 4
    heads: Positive = 4
    key_value_heads: Positive = 4  # fewer share keys and values (grouped queries)
    feed_forward: Positive = 384  # width inside
    vocabulary: Annotated[int, Field(ge=300)] = 4096  # tokens of text, at most; semantic ids come on top
    context: Positive = 1024  # positions
    dropout: Probability = 0.0  # of attention weights, in training
    tied: bool = True  # one matrix for input and output embeddings

    @model_validator(mode="after")
    def _heads_fit(self) -> LLMShape:
        if self.width % (2 * self.heads):
            raise ValueError(f"a `width` of {self.width} gives {self.heads} `heads` no even size; make it a multiple")
        if self.heads % self.key_value_heads:
            raise ValueError(f"{self.heads} `heads` cannot share {self.key_value_heads} `key_value_heads`; divide")
        return self


class TaskWeights(Section):
    """The supervised examples that are mixed, and the weight of their loss; 0 leaves them out."""

    next_item: Weight = 1.0  # semantic ids of the history → that of the next item
    title_to_item: Weight = 0.0
    item_to_title: Weight = 0.0
    next_title: Weight = 0.0  # semantic ids of the history → title of the next item
    next_item_by_titles: Weight = 0.0  # titles and semantic ids of the history → semantic id of the next item
    description_to_item: Weight = 0.0

    @model_validator(mode="after")
    def _something_to_learn(self) -> TaskWeights:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError("all weights are 0, so nothing would be learned; give `next_item` one")
        return self


class LLMConfig(Section):
    """A causal language model of the transformers library whose vocabulary grows by semantic ids."""

    base: Annotated[str, Field(min_length=1)] | None = None  # a folder or a hub's name; None builds `shape`
    shape: LLMShape = LLMShape()
    mode: TrainingMode = "full"
    lora_rank: Positive = 16
    tasks: TaskWeights = TaskWeights()
    prompt: str = HISTORY_PLACE  # text around the history of semantic ids
    separator: str = ""  # between two items of the history
    max_prompt_tokens: Positive = 512  # the oldest events go first
    batch_tokens: Positive = 4096  # a step
    index: Annotated[str, Field(min_length=1)] | None = None  # the semantic ids that `base` was trained with

    @model_validator(mode="after")
    def _prompt_has_one_history(self) -> LLMConfig:
        if self.prompt.count(HISTORY_PLACE) != 1:
            raise ValueError(f"`prompt` must hold {HISTORY_PLACE} once: there the history's semantic ids are put")
        return self

    @model_validator(mode="after")
    def _untrained_needs_a_base(self) -> LLMConfig:
        if self.base is None and self.mode in ("none", "embeddings", "lora"):
            raise ValueError(f"`mode` = {self.mode!r} leaves a model's weights as they are; name one as `base`")
        return self

    @property
    def every_event_is_an_answer(self) -> bool:
        """Whether the prompt of a longer history begins with that of a shorter one, so that one row asks for all."""
        return self.prompt.endswith(HISTORY_PLACE) and not self.separator
