"""What each head says of the items that are generated for validation cases, and the order chosen from it."""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config import DecodingConfig, RunConfig
from asterism.core.progress import track
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Cases
from asterism.decoding.generator import Generator
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.selection import by_position, select_top
from asterism.evaluation.metrics import target_ranks
from asterism.models.policy import ScoresPaths, read_histories
from asterism.models.trained import TrainedModel, device_of
from asterism.training.fusion_weights import CUTOFF, CandidateScores, choose_weights
from asterism.training.validation import sample_cases

HEADS: Final = ("item", "code", "content", "neighbour")
MAX_CASES: Final = 20_000  # their scores are held at once, 16 bytes a candidate

_ROWS_AT_ONCE = 256
_NONE = np.iinfo(np.int64).max


def with_chosen_weights(
    config: RunConfig, model: TrainedModel, table: SemanticIdTable, heads: HistoryHeads, validation: Cases
) -> RunConfig:
    """The configuration with the weights that order the validation cases' candidates best, histories excluded.

    All cases count, MAX_CASES at most: `evaluation.validation_cases` is for what every epoch repeats, and some hundreds
    of cases do not tell such weights apart.
    """
    start = config.decoding
    cases = sample_cases(validation, MAX_CASES, config.seed)
    candidates = score_candidates(model, table, heads, cases, start)
    found = choose_weights(candidates, np.array([getattr(start, f"{head}_weight") for head in HEADS], dtype=float))
    weights = {f"{head}_weight": float(f"{one:.6g}") for head, one in zip(HEADS, found.weights, strict=True)}
    said = ", ".join(f"{head} {weights[f'{head}_weight']:g}" for head in HEADS)
    print(
        f"fusion weights: {said}; NDCG@10 of {len(cases):,} validation cases "
        f"{found.ndcg_at_10_before:.4f} → {found.ndcg_at_10:.4f}",
        file=sys.stderr,
    )
    return config.model_copy(update={"decoding": start.model_copy(update=weights)})


def score_candidates(
    model: TrainedModel, table: SemanticIdTable, heads: HistoryHeads, cases: Cases, config: DecodingConfig
) -> CandidateScores:
    """Generate `config.beam` items a case, once, and score by HEADS those that `config.kept` leaves."""
    model.eval()
    device = device_of(model)
    generator = Generator(model, table, config, device=device)
    found = generator.recommend(cases.histories, config.beam, exclude_history=True, mode="generate", progress=True)
    assert found.code_log_probs is not None  # only mode `rank` has none
    order = np.argsort(np.where(found.items < 0, _NONE, found.items), axis=1, kind="stable")
    items = np.take_along_axis(found.items, order, axis=1)
    present = items >= 0
    scores = np.zeros((len(HEADS), *items.shape), dtype=np.float32)
    scores[1] = np.where(present, np.take_along_axis(found.code_log_probs, order, axis=1), 0.0)
    for begin in track(range(0, len(cases), _ROWS_AT_ONCE), "scoring candidates"):
        rows = np.arange(begin, min(begin + _ROWS_AT_ONCE, len(cases)))
        scores[0, rows], scores[2, rows], scores[3, rows] = _other_heads(model, heads, cases.take(rows), items[rows])
    everything = CandidateScores(scores, present, target_ranks(items, cases.targets))
    if config.kept == 0:
        return everything
    by = HEADS.index("code" if isinstance(model, ScoresPaths) else "item")
    return keep_best(everything, max(config.kept, CUTOFF), by)


def keep_best(candidates: CandidateScores, count: int, by: int = 0) -> CandidateScores:
    """Only a case's `count` best candidates by one of HEADS, the item head, in ascending order of item index."""
    head = np.where(candidates.present, candidates.scores[by], -np.inf)
    _, places = select_top(torch.from_numpy(head), count, by_position)
    places.sort(axis=1)
    scores = np.take_along_axis(candidates.scores, places[None], axis=2)
    present = np.take_along_axis(candidates.present, places, axis=1)
    return CandidateScores(scores, present, target_ranks(places, candidates.targets))


@torch.inference_mode()
def _other_heads(
    model: TrainedModel, heads: HistoryHeads, cases: Cases, items: NDArray[np.int64]
) -> tuple[Tensor, ...]:
    """What the item, content and neighbour heads say, each (cases, candidates); zeros of a head that is not there."""
    histories = read_histories(model, cases.histories)
    asked = torch.from_numpy(items).clamp(min=0)
    device = device_of(model)
    nothing = torch.zeros(items.shape)
    head = nothing  # of a model that scores paths: it would say what the codes say
    if not isinstance(model, ScoresPaths):
        head = model.item_scores(model.encode(histories.to(device)), asked.to(device)).float().cpu()
    content = nothing if heads.content is None else heads.content.scores(heads.content.queries(histories), asked)
    neighbours = nothing if heads.neighbours is None else heads.neighbours.scores(histories, asked)
    return head, content, neighbours
