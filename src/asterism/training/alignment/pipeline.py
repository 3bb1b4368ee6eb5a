"""From a bundle to its aligned bundle, stage by stage."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from asterism.config import AlignmentConfig, RunConfig
from asterism.config.idle import refuse_idle_alignment
from asterism.core.bundle import Bundle, check_target
from asterism.core.errors import BundleError, TrainingError
from asterism.data.dataset import Dataset
from asterism.data.preferences import preference_pairs
from asterism.data.sequences import Cases
from asterism.data.split import Split
from asterism.data.splits import split_dataset
from asterism.decoding.bundle_data import data_of_bundle
from asterism.decoding.content import ContentHead
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.loading import TrainedRecommender, load_recommender
from asterism.decoding.neighbours import NeighbourHead
from asterism.decoding.trie import Trie
from asterism.models.llm import LLM
from asterism.training.alignment.bundling import write_aligned
from asterism.training.alignment.distribution import ItemDistribution, fitted_temperature
from asterism.training.alignment.dpo import DirectPreference
from asterism.training.alignment.grpo import GroupRelative
from asterism.training.alignment.lessons import Method, TrainablePolicy, rows_at_once
from asterism.training.alignment.loop import Steering, align
from asterism.training.alignment.outcome import AlignmentResult
from asterism.training.alignment.processes import Processes
from asterism.training.alignment.questions import Questions, held_out_questions, newest_questions
from asterism.training.alignment.rewards import Reward, weighed_reward
from asterism.training.alignment.rollouts import Roller
from asterism.training.alignment.steering import Validator, Worth, ending, ndcg_of_lists, tell
from asterism.training.candidates import with_chosen_weights
from asterism.training.sole_trainer import sole_trainer
from asterism.training.validation import sample_cases

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
    resume: bool = False,
) -> tuple[Bundle, AlignmentResult] | None:
    """Align the policy of the bundle at `start` and write the outcome to `output`; the log is in `<output>.run`.

    Without `alignment` the bundle's own section holds, without `seed` its own seed; `reward` stands in for those of the
    configuration under GRPO, `worth` for the NDCG@10 of validation lists, by which the fusion weights are then not
    chosen anew. With `resume` an interrupted one goes on from its newest validation and ends with the same weights;
    Ctrl-C writes the best so far where that is a gain, and is raised on where it is none. Under `torchrun` or
    `accelerate launch` every process aligns and the main one alone writes; the others return None. Raises `BundleError`
    where the bundle is broken or `data` is not what it was trained on, `ConfigError` where a key of `[alignment]` would
    do nothing, `TrainingError` where there is nothing to learn from or the policy diverges before it gained.
    """
    processes = Processes()
    output = output.resolve()
    check_target(output)
    if output == start.resolve():
        raise BundleError(f"{output} is the bundle to start from, and would be replaced; name another place")
    folder = output.with_name(f"{output.name}.run")
    with sole_trainer(folder) if processes.main else nullcontext():
        trained = load_recommender(Bundle.open(start), device=processes.device)
        config = trained.config.model_copy(update={"alignment": alignment or trained.config.alignment})
        _check_learnable(config)
        seed = config.seed if seed is None else seed
        if isinstance(trained.policy, LLM):
            torch.manual_seed(seed)  # adapters start at random
            trained.policy.make_trainable(config.alignment.mode)
        dataset = data_of_bundle(trained.bundle, config.data, data)
        split = split_dataset(dataset, config.data)
        plan = _plan(dataset, split, config, seed)
        heads = HistoryHeads(ContentHead(trained.item_vectors), NeighbourHead.learn(split.train, len(split.items)))
        method = _method(trained, config, plan, split, heads, seed, reward)
        validator = Validator(trained, config, plan.steering, heads, worth or ndcg_of_lists)
        steering = _steering(
            validator, config, folder, seed, "NDCG@10" if worth is None else "worth", trained, processes
        )
        result = align(trained.policy, method, config.alignment, steering, resume=resume)
        steering.tell(ending(result, config.alignment.significance))
        if not processes.main:
            return None
        if result.interrupted and not result.improved:
            raise KeyboardInterrupt
        if result.improved and worth is None and config.decoding.choose_weights:
            config = with_chosen_weights(config, trained.policy, trained.semantic_ids, heads, plan.steering)
        return write_aligned(trained, output, config, heads.neighbours, result), result


def _steering(
    validator: Validator,
    config: RunConfig,
    folder: Path,
    seed: int,
    measure: str,
    trained: TrainedRecommender,
    processes: Processes,
) -> Steering:
    return Steering(
        validate=validator,
        folder=folder,
        seed=seed,
        tell=tell if processes.main else lambda line: None,
        measure=measure,
        floor=validator.diversity if config.alignment.hold_diversity else None,
        start=trained.bundle.version,
    )


def _check_learnable(config: RunConfig) -> None:
    """Say what cannot work now, before minutes go into neighbours and beams."""
    refuse_idle_alignment(config)
    weights = config.decoding
    if config.alignment.score == "served" and weights.item_weight == 0 and weights.code_weight == 0:
        raise TrainingError(
            "the order that this bundle serves has no weight for item head or codes, so nothing of the policy would "
            "learn from it; set `alignment.score` = 'codes'"
        )


class _Plan(NamedTuple):
    questions: Questions
    steering: Cases  # validation cases that are not asked for


def _plan(dataset: Dataset, split: Split, config: RunConfig, seed: int) -> _Plan:
    """What is asked, and by what the asking is judged."""
    if len(split.validation) == 0:
        raise TrainingError("the split leaves no validation case, and alignment is steered by them; take another split")
    alignment = config.alignment
    if alignment.held_out > 0:
        return _Plan(*held_out_questions(split.validation, split.train, alignment.held_out, seed))
    pairs = None
    if alignment.method == "dpo" and alignment.rejected != "beam":
        pairs = preference_pairs(dataset.interactions, split, config.data.split)
    return _Plan(newest_questions(split.train, alignment.newest, pairs), split.validation)


def _method(
    trained: TrainedRecommender,
    config: RunConfig,
    plan: _Plan,
    split: Split,
    heads: HistoryHeads,
    seed: int,
    reward: Reward | None,
) -> Method:
    alignment, questions = config.alignment, plan.questions
    view = Trie.from_table(trained.semantic_ids).snapshot()
    order = ItemDistribution.of(alignment.score, trained.semantic_ids, config.decoding, heads)
    temperature = _temperature(trained.policy, Roller(view, order, alignment.candidates), plan.steering, config.seed)
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
    together = rows_at_once(policy)
    for start in range(0, len(cases), together):
        part = cases.take(np.arange(start, min(start + together, len(cases))))
        with torch.inference_mode():
            state, candidates = roller.candidates(policy, part, keep_truth=False)
            scores.append(roller.distribution.scores(policy, state, candidates))
        right.append(candidates.items == torch.from_numpy(part.targets).long()[:, None])
    return fitted_temperature(torch.cat(scores), torch.cat(right))
