"""From a bundle to its aligned bundle, stage by stage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.config import AlignmentConfig, RunConfig
from asterism.core.bundle import Bundle, check_target
from asterism.core.errors import BundleError, ModelError, TrainingError
from asterism.data.dataset import Dataset
from asterism.data.preferences import preference_pairs
from asterism.data.sequences import Cases
from asterism.data.split import Split
from asterism.data.splits import split_dataset
from asterism.decoding.bundle_data import data_of_bundle
from asterism.decoding.content import ContentHead
from asterism.decoding.generator import Generator
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.loading import TrainedRecommender, load_recommender
from asterism.decoding.neighbours import NeighbourHead
from asterism.decoding.trie import Trie
from asterism.evaluation.metrics import ndcg, target_ranks
from asterism.models.ugt import UGT
from asterism.training.alignment.bundling import write_aligned
from asterism.training.alignment.distribution import ItemDistribution, fitted_temperature
from asterism.training.alignment.dpo import DirectPreference
from asterism.training.alignment.grpo import GroupRelative
from asterism.training.alignment.lessons import Method, TrainablePolicy
from asterism.training.alignment.loop import AlignmentResult, Validate, align
from asterism.training.alignment.questions import Questions, newest_questions
from asterism.training.alignment.rewards import Reward, weighed_reward
from asterism.training.alignment.rollouts import Roller
from asterism.training.candidates import with_chosen_weights
from asterism.training.sole_trainer import sole_trainer
from asterism.training.validation import sample_cases

CUTOFF = 10  # of the validation lists

#: What lists (cases, CUTOFF) of items are worth to each of the cases: (cases,).
Worth = Callable[[Cases, NDArray[np.int64]], NDArray[np.float64]]

_TEMPERATURE_CASES = 2_000


def align_bundle(
    start: Path,
    output: Path,
    alignment: AlignmentConfig | None = None,
    *,
    data: Path | None = None,
    seed: int | None = None,
    reward: Reward | None = None,
    worth: Worth | None = None,
) -> tuple[Bundle, AlignmentResult]:
    """Align the policy of the bundle at `start` and write the outcome to `output`; the log is in `<output>.run`.

    Without `alignment` the bundle's own section holds, without `seed` its own seed; `reward` stands in for those of the
    configuration under GRPO, `worth` for the NDCG@10 of validation lists, by which the fusion weights are then not
    chosen anew. Raises `BundleError` where the bundle is broken or `data` is not what it was trained on,
    `TrainingError` where there is nothing to learn from or the policy diverges, `ModelError` where the model is no UGT.
    """
    output = output.resolve()
    check_target(output)
    if output == start.resolve():
        raise BundleError(f"{output} is the bundle to start from, and would be replaced; name another place")
    folder = output.with_name(f"{output.name}.run")
    with sole_trainer(folder):
        trained = load_recommender(Bundle.open(start))
        model = trained.policy
        if not isinstance(model, UGT):
            raise ModelError(
                f"{start} holds a language model, and `asterism align` writes a UGT; train one of kind ugt"
            )
        config = trained.config.model_copy(update={"alignment": alignment or trained.config.alignment})
        seed = config.seed if seed is None else seed
        dataset = data_of_bundle(trained.bundle, config.data, data)
        split = split_dataset(dataset, config.data)
        _check_validation(split)
        heads = HistoryHeads(ContentHead(trained.item_vectors), NeighbourHead.learn(split.train, len(split.items)))
        method = _method(trained, config, dataset, split, heads, seed, reward)
        validate = _validator(trained, config, split.validation, heads, worth or ndcg_of_lists)
        measure = "NDCG@10" if worth is None else "worth"
        result = align(trained.policy, method, config.alignment, validate, folder, seed, _tell, measure)
        _tell(_ending(result, config.alignment.significance))
        if result.improved and worth is None and config.decoding.choose_weights:
            config = with_chosen_weights(config, trained.policy, trained.semantic_ids, heads, split.validation)
        return write_aligned(trained.bundle, output, model, config, heads.neighbours, result), result


def _method(
    trained: TrainedRecommender,
    config: RunConfig,
    dataset: Dataset,
    split: Split,
    heads: HistoryHeads,
    seed: int,
    reward: Reward | None,
) -> Method:
    alignment = config.alignment
    pairs = None
    if alignment.method == "dpo" and alignment.rejected != "beam":
        pairs = preference_pairs(dataset.interactions, split, config.data.split)
    questions = newest_questions(split.train, alignment.newest, pairs)
    view = Trie.from_table(trained.semantic_ids).snapshot()
    order = ItemDistribution.of(alignment.score, trained.semantic_ids, config.decoding, heads)
    temperature = _temperature(trained.policy, Roller(view, order, alignment.candidates), split.validation, config.seed)
    unknowing = HistoryHeads(heads.content, _neighbours_before(questions, len(split.items)))
    asked = ItemDistribution.of(alignment.score, trained.semantic_ids, config.decoding, unknowing, temperature)
    roller = Roller(view, asked, min(alignment.candidates, len(split.items)))
    if alignment.method == "dpo":
        return DirectPreference(trained.policy, questions, roller, alignment)
    reward = reward or weighed_reward(alignment.rewards, trained.item_vectors, split.train)
    return GroupRelative(trained.policy, questions, roller, reward, alignment, seed)


def _neighbours_before(questions: Questions, items: int) -> NeighbourHead:
    """Neighbours that have not seen what is asked for, as those of the service have not."""
    return NeighbourHead.learn(questions.earlier, items)


def _temperature(policy: TrainablePolicy, roller: Roller, validation: Cases, seed: int) -> float:
    """At which the order's softmax fits the validation cases best, since its weights were chosen for order alone."""
    policy.eval()
    cases = sample_cases(validation, _TEMPERATURE_CASES, seed)
    scores, right = [], []
    for start in range(0, len(cases), 256):
        part = cases.take(np.arange(start, min(start + 256, len(cases))))
        with torch.inference_mode():
            state, candidates = roller.candidates(policy, part, keep_truth=False)
            scores.append(roller.distribution.scores(policy, state, candidates))
        right.append(candidates.items == torch.from_numpy(part.targets).long()[:, None])
    return fitted_temperature(torch.cat(scores), torch.cat(right))


def _validator(
    trained: TrainedRecommender, config: RunConfig, validation: Cases, heads: HistoryHeads, worth: Worth
) -> Validate:
    """What the lists that are served to the validation cases, the user's history excluded, are worth."""
    cases = sample_cases(validation, config.evaluation.validation_cases, config.seed)
    generator = Generator(trained.policy, trained.semantic_ids, config.decoding, heads=heads)

    def validate(policy: TrainablePolicy) -> NDArray[np.float64]:
        found = generator.recommend(cases.histories, CUTOFF, exclude_history=True, code_log_probs=False)
        return worth(cases, found.items)

    return validate


def ndcg_of_lists(cases: Cases, lists: NDArray[np.int64]) -> NDArray[np.float64]:
    """NDCG@10 of each case."""
    return ndcg(target_ranks(lists, cases.targets), CUTOFF)


def _check_validation(split: Split) -> None:
    if len(split.validation) == 0:
        raise TrainingError("the split leaves no validation case, and alignment is steered by them; take another split")


def _ending(result: AlignmentResult, significance: float) -> str:
    ended = f"alignment ended after {result.steps} steps and {result.seconds:.0f} s: {result.stopped}"
    figures = f"validation {result.measure} {result.start_validation:.4f} → {result.best_validation:.4f}"
    if result.improved:
        return f"{ended}\n{figures} at step {result.best_step}, p = {result.p_value:.3f}"
    if result.best_step == 0:
        return f"{ended}\nno step was better than the start on validation, so the result is the start, unchanged"
    unsure = f"is no sure gain (p = {result.p_value:.3f}, above alignment.significance {significance:g})"
    return f"{ended}\n{figures} {unsure}, so the result is the start, unchanged"


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
