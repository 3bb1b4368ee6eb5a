"""One run, from files to bundle, as a typed value: a section a room."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from asterism.config.llm import LLMConfig, TrainingMode
from asterism.config.section import Positive, Probability, Section, Weight
from asterism.core.records import Kind

SplitMethod = Literal["leave_one_out", "by_time", "by_column"]
NegativeSampling = Literal["uniform", "popularity", "in_batch", "mixed"]
AlignmentMethod = Literal["dpo", "grpo"]
AlignedScore = Literal["served", "codes"]
RejectedFrom = Literal["logged", "beam", "both"]
Rollouts = Literal["beam", "sample"]
RatioLevel = Literal["token", "sequence"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0)]


class DataConfig(Section):
    """Which data, and how it is cut.

    Either `path` (a folder holding `interactions.*` and `items.*`, looked up under ASTERISM_DATA
    when it is not found beside the configuration) or `interactions` with optional `items`, `users`.
    """

    path: str | None = None
    interactions: str | None = None
    items: str | None = None
    users: str | None = None
    split: SplitMethod = "leave_one_out"
    validation_share: Probability = 0.1  # by_time: share of events, by time, before the test part
    test_share: Probability = 0.1  # by_time: share of the newest events

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.path is None) == (self.interactions is None):
            raise ValueError("give either `path` or `interactions`, not both and not neither")
        return self


class KindFields(Section):
    """Which columns make the text of an item of each kind; a column that the items lack is skipped."""

    product: tuple[str, ...] = ("title", "categories", "brand", "description", "keywords")
    video: tuple[str, ...] = ("title", "categories", "channel", "brand", "description", "tags", "keywords")
    article: tuple[str, ...] = ("title", "categories", "author", "brand", "description", "body", "keywords")
    music: tuple[str, ...] = ("title", "artist", "album", "categories", "brand", "description", "keywords")
    movie: tuple[str, ...] = ("title", "categories", "director", "actors", "brand", "description", "keywords")


class EmbeddingConfig(Section):
    """How an item becomes a vector: parts, their weights and the width of their fusion."""

    text_model: str = "all-MiniLM-L6-v2"  # a name, a folder, or "tfidf"
    text_fields: tuple[str, ...] = ("title", "categories", "brand", "description", "keywords")
    fields_by_kind: KindFields = KindFields()  # for items whose `kind` is known
    text_weight: Weight = 1.0
    image_model: str | None = None  # a folder with CLIP, SigLIP or another model of images
    image_weight: Weight = 1.0
    collaborative_weight: Weight = 1.0
    structured_weight: Weight = 0.5
    precomputed: dict[str, Weight] = Field(default_factory=dict)  # embedding_<name> column → weight
    width: Positive = 256  # of the fused vector
    fusion: Literal["linear", "contrastive"] = "linear"  # contrastive: learn from items consumed together

    @model_validator(mode="before")
    @classmethod
    def _one_list_holds_for_every_kind(cls, values: Any) -> Any:
        """A file that gives `text_fields` alone means them for all its items."""
        if not isinstance(values, dict) or "fields_by_kind" in values or "text_fields" not in values:
            return values
        try:
            alike = KindFields.model_validate(dict.fromkeys((kind.value for kind in Kind), values["text_fields"]))
        except ValueError:
            return values  # what is wrong with `text_fields` is told of that key, once
        return {**values, "fields_by_kind": alike}


class SemanticIdConfig(Section):
    """How vectors become codes."""

    method: Literal["rq-kmeans", "balanced-rq-kmeans", "rq-vae", "rq-kmeans+", "opq", "simhash"] = "balanced-rq-kmeans"
    levels: Annotated[int, Field(ge=2)] = 4  # all levels, the de-duplication level included
    codes: Annotated[int, Field(ge=2)] = 256  # per level before the de-duplication level
    iterations: Positive = 25  # of k-means
    epochs: Positive = 200  # rq-vae, rq-kmeans+: at most; training ends when the error no longer falls
    codebook_update: Literal["ema", "gradient"] = "ema"  # rq-vae, rq-kmeans+: moving averages or the optimiser
    reassign_colliding: bool = True  # move items that share all codes to free codes of the last fitted level
    like: Annotated[str, Field(min_length=1)] | None = None  # an earlier bundle whose ids items keep if they can


class ModelConfig(Section):
    """The Unified Generative Transformer; of an LLM, `max_events` alone counts."""

    kind: Literal["ugt", "llm"] = "ugt"
    width: Positive = 64
    blocks: Positive = 2
    heads: Positive = 2
    max_events: Positive = 50
    dropout: Probability = 0.5
    id_vectors: bool = True  # one learned vector an item, beside codes and content
    content: bool = True  # the projected item vector
    recency_pooling: bool = False  # the newest items' mean direction beside the state
    actions: bool = False  # what was done with an item
    values: bool = False  # how strong it was: rating, dwell seconds
    time_gaps: bool = False  # since the event before
    contexts: bool = False  # scene and device
    asked: bool = False  # how long after the newest event is asked; with `contexts`, in which scene, on which device
    user_attributes: bool = False  # a token of the user's attributes before the events
    group_norm: bool = False  # groups of an event, and of tokens, are normalised apart
    experts: Annotated[int, Field(ge=0)] = 0  # feed-forward networks a block; 1 is a plain one
    expert_top_k: Positive = 2  # experts that a token asks
    summaries: Annotated[int, Field(ge=0, le=32)] = 0  # windows of events older than the newest max_events
    max_history: Annotated[int, Field(ge=1, le=10_000)] = 1_000  # events read in all, where there are summaries

    @model_validator(mode="after")
    def _experts_are_enough(self) -> ModelConfig:
        if self.experts > 1 and self.expert_top_k > self.experts:
            raise ValueError(
                f"a token cannot ask `expert_top_k` {self.expert_top_k} of {self.experts} `experts`; lower it"
            )
        return self

    @model_validator(mode="after")
    def _summaries_have_events(self) -> ModelConfig:
        if self.summaries and self.max_history < self.max_events + self.summaries:
            raise ValueError(
                f"a `max_history` of {self.max_history} leaves too few events beyond `max_events` {self.max_events} "
                f"for {self.summaries} `summaries`; raise it"
            )
        return self

    @property
    def events_read(self) -> int:
        """How many newest events of a history the model reads in all."""
        return self.max_history if self.summaries else self.max_events

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> ModelConfig:
        if self.width % self.heads:
            raise ValueError(f"a `width` of {self.width} cannot be shared by {self.heads} `heads`; make it a multiple")
        return self


class TrainingConfig(Section):
    """The optimisation."""

    epochs: Positive = 100
    patience: Positive = 5  # validations without a better NDCG@10 before stopping
    batch_users: Positive = 64
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    weight_decay: Weight = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    item_loss_weight: Weight = 1.0
    code_loss_weight: Weight = 1.0
    negatives: Annotated[int, Field(ge=0)] = 2048  # sampled for the item loss; 0 = full softmax
    negative_sampling: NegativeSampling = "uniform"  # all others correct their logits by the expected counts
    alignment_weight: Weight = 0.0  # of the cosine between an item's vector and its frozen content
    preference_weight: Weight = 0.0  # of the pairs: what was acted on above what was ignored, skipped or disliked
    load_balance_weight: Weight = (
        0.01  # of how unevenly the experts are asked; without experts there is nothing to weigh
    )
    temperature: Annotated[float, Field(gt=0.0)] = 0.07  # of all cosines: item head and codes
    average_epochs: Weight = 3.0  # weights are averaged over about so many epochs' steps; 0 takes them as they are
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _something_to_learn(self) -> TrainingConfig:
        if self.item_loss_weight == 0 and self.code_loss_weight == 0:
            raise ValueError("`item_loss_weight` and `code_loss_weight` are both 0, so nothing would be learned")
        if self.negatives == 0 and self.negative_sampling != "uniform":
            raise ValueError(
                f"`negatives` = 0 takes the whole catalogue, so `negative_sampling` = {self.negative_sampling!r} "
                "would draw nothing; set `negatives`, or leave `negative_sampling` out"
            )
        return self


class DecodingConfig(Section):
    """Generate wide, then re-score."""

    beam: Positive = 200  # items generated
    kept: Annotated[int, Field(ge=0)] = 0  # of them by the item head alone, before all heads look; 0 = all
    item_weight: Weight = 1.0  # of the item head against the other three
    code_weight: Weight = 0.0  # of the code log-probability
    content_weight: Weight = 0.0  # of the likeness to the newest events by item vectors
    neighbour_weight: Weight = 0.0  # of what other users took beside and after the newest events
    choose_weights: bool = True  # after training, on validation; these four are then where the search starts
    precision: Literal["fp32", "bf16", "int8"] = "fp32"  # in which a bundle answers; training has its own


class RewardWeights(Section):
    """How much each reward counts in the reward of an item; all are at most about one."""

    hit: Weight = 1.0  # the item that was taken next
    rank: Weight = 1.0  # against wrong items, the more the higher they stood
    semantic: Weight = 0.0  # likeness of item vectors to the item that was taken
    collaborative: Weight = 0.0  # likeness of users to those of the item that was taken
    action: Weight = 0.0  # a hit by the value of what was done: click 1, cart 2, purchase 3
    variety: Weight = 0.0  # unlikeness of item vectors to the rest of the group


class AlignmentConfig(Section):
    """Preference alignment of a trained policy: `asterism align`."""

    method: AlignmentMethod = "dpo"
    score: AlignedScore = "served"  # whose distribution is aligned
    newest: Positive = 1  # newest training events of a user that are asked for
    held_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # share of the validation cases asked for instead
    mode: TrainingMode | None = None  # of a language model: what learns; None: as in training
    candidates: Positive = 64  # items of a question's beam
    epochs: Positive = 5
    patience: Positive = 5  # validations without a better NDCG@10 before stopping
    validations: Positive = 4  # an epoch
    batch_users: Positive = 64
    learning_rate: Rate = 1e-5  # small: aligned on the log alone, higher ones lost (docs/decisions/0017-alignment.md)
    dropout: bool = True
    significance: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05  # p of the gain on validation that replaces the start
    max_kl: Rate = 1.0  # to the start, at which alignment stops with the best before it
    hold_diversity: bool = False  # no weights whose validation lists are less diverse than the start's

    beta: Rate = 1.0  # dpo: how far a margin may move away from the reference's
    rejected: RejectedFrom = "beam"  # dpo
    softmax: bool = True  # dpo: all rejected items at once; else pair by pair
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0  # dpo, pair by pair

    group: Annotated[int, Field(ge=2)] = 16  # grpo: items of a group
    rollouts: Rollouts = "beam"  # grpo
    keep_truth: bool = True  # grpo: the item that was taken is in its group
    by_deviation: bool = True  # grpo: advantages over the group's standard deviation
    updates: Positive = 1  # grpo: steps a group is used for
    ratio: RatioLevel = "token"  # grpo
    clip_low: Rate = 0.2  # grpo
    clip_high: Rate = 0.2  # grpo
    kl_weight: Weight = 0.01  # grpo
    rewards: RewardWeights = RewardWeights()  # grpo


class EvaluationConfig(Section):
    """What is measured."""

    cutoffs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 3, 5, 10, 20, 50)
    bootstrap_samples: Positive = 1000
    validation_cases: Positive | None = None  # live validation on a sample of this many cases


class RunConfig(Section):
    """A whole run."""

    name: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataConfig
    embeddings: EmbeddingConfig = EmbeddingConfig()
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    model: ModelConfig = ModelConfig()
    llm: LLMConfig = LLMConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    alignment: AlignmentConfig = AlignmentConfig()

    @model_validator(mode="after")
    def _content_to_align_with(self) -> RunConfig:
        if self.training.alignment_weight > 0 and not self.model.content:
            raise ValueError("`training.alignment_weight` needs the item's content; set `model.content` = true")
        return self
