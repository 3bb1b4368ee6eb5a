"""The policy port: all that decoding, evaluation, alignment and serving know of a model."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from asterism.data.sequences import Sequences
from asterism.models.histories import HistoryBatch, HistoryLayout

__all__ = [
    "HistoryBatch",
    "HistoryLayout",
    "LimitsRows",
    "NativeScorer",
    "Policy",
    "ReadsByLayout",
    "ScoresNatively",
    "ScoresPaths",
    "ScoresSteps",
    "layout_of",
    "read_histories",
]


class Policy(Protocol):
    """A generative model over semantic ids with an item-level score from the same state."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level, coarse to fine, the de-duplication level included."""
        ...

    @property
    def max_events(self) -> int:
        """How many newest events of a history the model reads."""
        ...

    def encode(self, histories: HistoryBatch) -> Tensor:
        """(B, D) user states, a row a user; what is in a row is the policy's own affair, and D may differ by batch."""
        ...

    def next_code_log_probs(self, state: Tensor, prefixes: Tensor) -> Tensor:
        """Log-probabilities of the next level's codes, not yet constrained to the catalogue.

        `state` (B, D); `prefixes` (B, W, l) long, the codes of the first l levels of W beams;
        returns (B, W, codebook_sizes[l]), each row summing to one in probability.
        """
        ...

    def item_scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Item-level scores: (B, N) over the whole catalogue, or (B, C) for candidates `items` (B, C) long."""
        ...


@runtime_checkable
class ReadsByLayout(Protocol):
    """A policy that reads more of a history than the items, moments and actions of its newest events."""

    @property
    def layout(self) -> HistoryLayout:
        """What it reads."""
        ...


@runtime_checkable
class LimitsRows(Protocol):
    """A policy whose states are so large that only some fit into memory at once."""

    @property
    def rows_at_once(self) -> int:
        """How many."""
        ...


@runtime_checkable
class ScoresPaths(Protocol):
    """A policy without an item head of its own: an item's score is the log-probability of its whole path."""

    def path_log_probs(self, state: Tensor, paths: Tensor) -> Tensor:
        """(B, D) states, (B, C, levels) codes → (B, C, levels) log p(code | the codes before it), in one pass."""
        ...


@runtime_checkable
class ScoresSteps(Protocol):
    """A policy that can be asked about single codes, which costs less where few of a level may follow."""

    def step_log_probs(self, state: Tensor, prefixes: Tensor, origins: Tensor, codes: Tensor) -> Tensor:
        """(n,) float32: log p(codes[i] | the prefix origins[i]), what `next_code_log_probs` has there.

        `state` (B, D); `prefixes` (B, W, l) long; `origins` (n,) int32, row * W + beam, ascending, and among equal
        ones `codes` (n,) int32 ascending.
        """
        ...


class NativeScorer(NamedTuple):
    """Compiled code that answers what `step_log_probs` is asked, for a batch's states."""

    function: int  # its address: (context, level, B, W, states, prefixes, n, origins, codes, log-probabilities out)
    context: int
    states: Tensor  # (B, D) fp32, one row after the other


@runtime_checkable
class ScoresNatively(Protocol):
    """A policy that compiled code can ask without a way through Python."""

    def native_scorer(self, state: Tensor) -> NativeScorer | None:
        """For states (B, D); None where there is none. The policy must live on meanwhile."""
        ...


def layout_of(policy: Policy) -> HistoryLayout:
    """What a policy reads of a history: its `layout` where it has one, else its `max_events` newest events."""
    return policy.layout if isinstance(policy, ReadsByLayout) else HistoryLayout(policy.max_events)


def read_histories(policy: Policy, histories: Sequences) -> HistoryBatch:
    """What a policy reads of histories."""
    return HistoryBatch.from_sequences(histories, layout_of(policy))
