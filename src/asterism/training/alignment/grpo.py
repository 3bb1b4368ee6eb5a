"""Group-relative policy optimisation: advantages within a group, and the clipped loss with its variants.

A group is G items for one history; an item is T tokens: the levels of its code path, or one where the policy's
distribution is over items. All items of a policy have equally many tokens, so means over tokens (DAPO) and means of
sequence means (GRPO) are the same number here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asterism.config.run import AlignmentConfig, RatioLevel
from asterism.core.errors import TrainingError
from asterism.models.policy import read_histories
from asterism.training.alignment.distribution import Candidates, divergence, entropy
from asterism.training.alignment.lessons import Figures, Lesson, Rows, TrainablePolicy, mean
from asterism.training.alignment.questions import Questions
from asterism.training.alignment.rewards import Drawn, Reward
from asterism.training.alignment.rollouts import Roller, draw_group

_TINY = 1e-6


class GroupLogProbs(NamedTuple):
    """Log-probabilities of the tokens of B groups of G items."""

    now: Tensor  # (B, G, T) of the policy that is trained
    drawn: Tensor  # (B, G, T) of the policy that made the group, without gradient
    reference: Tensor  # (B, G, T) of the frozen reference


class Clipping(NamedTuple):
    """How far a ratio may move from 1 before it stops to gain."""

    low: float  # 1 − low is the least; equal to `high` in PPO and GRPO
    high: float  # 1 + high is the most; larger than `low` in DAPO


class GroupLoss(NamedTuple):
    """The loss that is minimised and what it is made of, each a scalar."""

    total: Tensor
    kl: Tensor  # estimated, to the reference
    clipped: Tensor  # share of ratios at which clipping acts


def group_advantages(rewards: Tensor, present: Tensor, *, by_deviation: bool) -> Tensor:
    """(B, G) rewards → A_i = (r_i − mean of the group), divided by the group's standard deviation where asked.

    GRPO (DeepSeekMath, Shao et al. 2024, section 4.1.2); without the division Dr. GRPO (Liu et al. 2025), which does
    not inflate groups whose rewards hardly differ. Items that are not `present` (B, G) take no part and get zero. The
    deviation is the population's.
    """
    count = present.sum(dim=1, keepdim=True).clamp(min=1)
    mean = rewards.masked_fill(~present, 0.0).sum(dim=1, keepdim=True) / count
    centred = (rewards - mean).masked_fill(~present, 0.0)
    if not by_deviation:
        return centred
    deviation = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
    return torch.where(deviation > _TINY, centred / deviation.clamp(min=_TINY), 0.0)


def has_signal(rewards: Tensor, present: Tensor) -> Tensor:
    """(B,) whether a group's rewards differ, so that it can teach something."""
    highest = rewards.masked_fill(~present, -torch.inf).amax(dim=1)
    lowest = rewards.masked_fill(~present, torch.inf).amin(dim=1)
    return highest - lowest > _TINY


def importance_ratios(now: Tensor, drawn: Tensor, level: RatioLevel) -> Tensor:
    """(B, G, T) π_now / π_drawn: token by token (GRPO), or for `sequence` their geometric mean in each token.

    GSPO (Zheng et al. 2025), equation 7: s = exp(1/T Σ_t (log π_now − log π_drawn)).
    """
    log_ratios = now - drawn
    if level == "sequence":
        log_ratios = log_ratios.mean(dim=2, keepdim=True).expand_as(log_ratios)
    return log_ratios.exp()


def kl_estimate(now: Tensor, reference: Tensor) -> Tensor:
    """π_ref / π − log(π_ref / π) − 1, elementwise: never negative, zero where both agree, unbiased for draws from π.

    Schulman's third estimator, as in GRPO's equation 4.
    """
    gap = reference - now
    return gap.exp() - gap - 1


def grpo_loss(
    log_probs: GroupLogProbs,
    advantages: Tensor,
    present: Tensor,
    clipping: Clipping,
    level: RatioLevel,
    kl_weight: float,
) -> GroupLoss:
    """−mean over items and tokens of min(ρ A, clip(ρ) A) − kl_weight · KL; `advantages`, `present` (B, G).

    GRPO, equation 3. DAPO (Yu et al. 2025) is `clipping.high` above `clipping.low` and a `kl_weight` of zero; GSPO is
    `level` = sequence. Left out: DAPO's penalty for overlong answers, since all answers are equally long.
    """
    ratios = importance_ratios(log_probs.now, log_probs.drawn, level)
    bounded = ratios.clamp(1 - clipping.low, 1 + clipping.high)
    gains = advantages[:, :, None]
    surrogate = torch.minimum(ratios * gains, bounded * gains)
    divergence = kl_estimate(log_probs.now, log_probs.reference)
    weights = present[:, :, None].expand_as(surrogate) / present.sum().clamp(min=1) / surrogate.shape[2]
    kl = (divergence * weights).sum()
    total = -(surrogate * weights).sum() + kl_weight * kl
    clipped = ((ratios * gains > bounded * gains) * weights).sum()
    return GroupLoss(total, kl.detach(), clipped.detach())


class GroupRelative:
    """GRPO as a stage: groups from the policy as it stands, rewards, advantages, one or more steps on each."""

    def __init__(
        self,
        policy: TrainablePolicy,
        questions: Questions,
        roller: Roller,
        reward: Reward,
        config: AlignmentConfig,
        seed: int,
    ) -> None:
        """`policy` is the reference as it stands now."""
        self._reference = _frozen(policy)
        self._questions = questions
        self._roller = roller
        self._reward = reward
        self._config = config
        self._random = torch.Generator().manual_seed(seed)
        self._taught = False
        self.rows: Rows = np.arange(len(questions))

    def lessons(self, policy: TrainablePolicy, batches: Iterator[Rows]) -> Iterator[Lesson]:
        """Groups without signal are passed over, and the next questions take their places in the batch.

        Raises `TrainingError` where no group has had any by the end of the batches.
        """
        waiting: Groups | None = None
        for rows in batches:
            found = self._roll_out(policy, rows)
            waiting = found if waiting is None else joined(waiting, found)
            while waiting is not None and len(waiting.rows) >= self._config.batch_users:
                ready, waiting = split(waiting, self._config.batch_users)
                yield from self._updates(policy, ready)
        if waiting is not None and len(waiting.rows):
            yield from self._updates(policy, waiting)
        if not self._taught:
            raise TrainingError(
                "no group of any question had rewards that differ, so GRPO has nothing to learn; give "
                "alignment.rewards a weight that tells items apart, keep the truth in the group, or widen the group"
            )

    @torch.no_grad()
    def _roll_out(self, policy: TrainablePolicy, rows: Rows) -> Groups:
        config, distribution = self._config, self._roller.distribution
        cases = self._questions.cases.take(rows)
        policy.eval()
        state, candidates = self._roller.candidates(policy, cases, keep_truth=config.keep_truth)
        candidates = candidates.cloned()
        targets = torch.from_numpy(cases.targets).long()
        scores = distribution.scores(policy, state.clone(), candidates)
        keep = candidates.items == targets[:, None] if config.keep_truth else None
        picked = draw_group(scores, config.group, config.rollouts, keep, self._random)
        items, present = candidates.items.gather(1, picked), candidates.present.gather(1, picked)
        values = torch.from_numpy(self._questions.values[rows])
        rewards = self._reward(Drawn(rows, items, targets, scores.gather(1, picked), values))
        of_reference = self._reference.encode(read_histories(self._reference, cases.histories))
        reference = distribution.scores(self._reference, of_reference, candidates)
        teaching = has_signal(rewards, present)
        figures = Figures(
            reward=mean(rewards, present),
            signal=float(teaching.float().mean()),
            kl=float(divergence(scores, reference).mean()),
            entropy=float(entropy(scores).mean()),
        )
        kept = torch.nonzero(teaching)[:, 0]
        tokens = distribution.token_log_probs(self._reference, of_reference, candidates, picked)
        advantages = group_advantages(rewards, present, by_deviation=config.by_deviation)
        return Groups(
            rows[kept.numpy()],
            candidates.rows(kept),
            picked[kept],
            present[kept],
            advantages[kept],
            tokens[kept],
            ((len(rows), figures),),
        )

    def _updates(self, policy: TrainablePolicy, groups: Groups) -> Iterator[Lesson]:
        """The first step's log-probabilities stand for the policy that drew the group, so that dropout is no drift."""
        config = self._config
        self._taught = True
        drawn: Tensor | None = None
        for _ in range(config.updates):
            policy.train(config.dropout)
            state = policy.encode(read_histories(policy, self._questions.cases.histories.take(groups.rows)))
            now = self._roller.distribution.token_log_probs(policy, state, groups.candidates, groups.picked)
            drawn = now.detach() if drawn is None else drawn
            log_probs = GroupLogProbs(now, drawn, groups.reference)
            clipping = Clipping(config.clip_low, config.clip_high)
            loss = grpo_loss(log_probs, groups.advantages, groups.present, clipping, config.ratio, config.kl_weight)
            yield Lesson(loss.total, averaged(groups.figures))


class Groups(NamedTuple):
    """B groups that have signal, ready to be learned from."""

    rows: Rows  # (B,) their questions
    candidates: Candidates
    picked: Tensor  # (B, G) the group's places among the candidates
    present: Tensor  # (B, G)
    advantages: Tensor  # (B, G)
    reference: Tensor  # (B, G, T) the reference's log-probabilities
    figures: tuple[tuple[int, Figures], ...]  # of the batches they are from, groups without signal among them


def joined(first: Groups, second: Groups) -> Groups:
    """Groups of two roll-outs, one below the other."""
    ours, theirs = first.candidates.of_history, second.candidates.of_history
    both = None if ours is None or theirs is None else torch.cat([ours, theirs])
    return Groups(
        rows=np.concatenate([first.rows, second.rows]),
        candidates=Candidates(torch.cat([first.candidates.items, second.candidates.items]), both),
        picked=torch.cat([first.picked, second.picked]),
        present=torch.cat([first.present, second.present]),
        advantages=torch.cat([first.advantages, second.advantages]),
        reference=torch.cat([first.reference, second.reference]),
        figures=first.figures + second.figures,
    )


def split(groups: Groups, count: int) -> tuple[Groups, Groups | None]:
    """The first `count` groups, and the others if there are any."""

    def part(rows: slice) -> Groups:
        return Groups(
            rows=groups.rows[rows],
            candidates=groups.candidates.rows(torch.arange(len(groups.rows))[rows]),
            picked=groups.picked[rows],
            present=groups.present[rows],
            advantages=groups.advantages[rows],
            reference=groups.reference[rows],
            figures=groups.figures,
        )

    first = part(slice(None, count))
    return first, part(slice(count, None)) if count < len(groups.rows) else None


def averaged(figures: tuple[tuple[int, Figures], ...]) -> Figures:
    """Means of batches' figures, each batch counting by its questions."""
    total = sum(count for count, _ in figures)
    return Figures(
        *(sum(count * one[place] for count, one in figures) / total for place in range(len(Figures._fields)))
    )


def _frozen(policy: TrainablePolicy) -> TrainablePolicy:
    copied = copy.deepcopy(policy)
    copied.eval().requires_grad_(False)
    return copied
