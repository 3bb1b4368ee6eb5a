"""GRPO as a stage: groups from the policy as it stands, rewards, advantages, one or more steps on each."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asterism.config.run import AlignmentConfig
from asterism.core.errors import TrainingError
from asterism.training.alignment.distribution import divergence, entropy
from asterism.training.alignment.group_losses import (
    Clipping,
    GroupLogProbs,
    group_advantages,
    grpo_loss,
    has_signal,
)
from asterism.training.alignment.groups import Groups, Tally, averaged, joined, split
from asterism.training.alignment.lessons import Figures, Lesson, Rows, TrainablePolicy, encoded, mean
from asterism.training.alignment.processes import Processes
from asterism.training.alignment.questions import Questions
from asterism.training.alignment.rewards import Drawn, Reward
from asterism.training.alignment.rollouts import Roller, draw_group


class GroupRelative:
    """Groups by groups; on several processes each rolls out and learns from its share of them."""

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
        self._reference = frozen(policy)
        self._questions = questions
        self._roller = roller
        self._reward = reward
        self._config = config
        self._seed = seed
        self._rolled_out = 0  # batches
        self._taught = False
        self._waiting: Groups | None = None  # for the batch to be full
        self.rows: Rows = np.arange(len(questions))

    def lessons(self, policy: TrainablePolicy, batches: Iterator[Rows]) -> Iterator[Lesson]:
        """Groups without signal are passed over, and the next questions take their places in the batch.

        Raises `TrainingError` where no group has had any by the end of the batches.
        """
        processes = Processes()
        for rows in batches:
            found = self._rolled(policy, rows, processes)
            self._waiting = found if self._waiting is None else joined(self._waiting, found)
            while self._waiting is not None and len(self._waiting.rows) >= self._config.batch_users:
                ready, self._waiting = split(self._waiting, self._config.batch_users)
                yield from self._updates(policy, ready, processes)
        rest, self._waiting = self._waiting, None
        if rest is not None and len(rest.rows):
            yield from self._updates(policy, rest, processes)
        if not self._taught:
            raise TrainingError(
                "no group of any question had rewards that differ, so GRPO has nothing to learn; give "
                "alignment.rewards a weight that tells items apart, keep the truth in the group, or widen the group"
            )

    def state_dict(self) -> dict[str, Any]:
        """How many batches were rolled out, and the groups that wait for a full batch."""
        waiting = None if self._waiting is None else self._waiting.as_dict()
        return {"rolled_out": self._rolled_out, "taught": self._taught, "waiting": waiting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._rolled_out, self._taught = state["rolled_out"], state["taught"]
        self._waiting = None if state["waiting"] is None else Groups.of_dict(state["waiting"])

    def _rolled(self, policy: TrainablePolicy, rows: Rows, processes: Processes) -> Groups:
        """The groups of a batch of questions that have signal, the same in all processes."""
        chances = torch.rand((len(rows), self._config.group), generator=self._next_random())
        share = processes.share(len(rows))
        parts = processes.gathered(self._roll_out(policy, rows[share], chances[share]), len(rows))
        found, *others = parts
        for other in others:
            found = joined(found, other)
        return found

    def _next_random(self) -> torch.Generator:
        """Draws depend on the seed and on how many batches came before, so that a resumed run draws alike."""
        self._rolled_out += 1
        mixed = int(np.random.default_rng([self._seed, self._rolled_out]).integers(2**62))
        return torch.Generator().manual_seed(mixed)

    @torch.no_grad()
    def _roll_out(self, policy: TrainablePolicy, rows: Rows, chances: Tensor) -> Groups:
        config, distribution = self._config, self._roller.distribution
        cases = self._questions.cases.take(rows)
        policy.eval()
        state, candidates = self._roller.candidates(policy, cases, keep_truth=config.keep_truth)
        candidates = candidates.cloned()
        targets = torch.from_numpy(cases.targets).long()
        scores = distribution.scores(policy, state.clone(), candidates)
        keep = candidates.items == targets[:, None] if config.keep_truth else None
        picked = draw_group(scores, config.group, config.rollouts, keep, chances)
        items, present = candidates.items.gather(1, picked), candidates.present.gather(1, picked)
        values = torch.from_numpy(self._questions.values[rows])
        rewards = self._reward(Drawn(rows, items, targets, scores.gather(1, picked), values))
        of_reference = encoded(self._reference, cases)
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
            (Tally(len(rows), len(kept), figures),),
        )

    def _updates(self, policy: TrainablePolicy, groups: Groups, processes: Processes) -> Iterator[Lesson]:
        """The first step's log-probabilities stand for the policy that drew the group, so that dropout is no drift."""
        config, figures = self._config, averaged(groups.tallies)
        self._taught = True
        own = groups.part(processes.share(len(groups.rows)))
        cases = self._questions.cases.take(own.rows)
        drawn: Tensor | None = None
        for _ in range(config.updates):
            policy.train(config.dropout)
            state = encoded(policy, cases)
            now = self._roller.distribution.token_log_probs(policy, state, own.candidates, own.picked)
            drawn = now.detach() if drawn is None else drawn
            log_probs = GroupLogProbs(now, drawn, own.reference)
            clipping = Clipping(config.clip_low, config.clip_high)
            loss = grpo_loss(log_probs, own.advantages, own.present, clipping, config.ratio, config.kl_weight)
            yield Lesson(loss.total, float(own.present.sum()), figures)


def frozen(policy: TrainablePolicy) -> TrainablePolicy:
    """A copy that stays as it is; what does not learn anyway is shared with the policy, not copied."""
    shared = {id(one): one for one in policy.parameters() if not one.requires_grad}
    copied = copy.deepcopy(policy, memo=shared)
    copied.eval().requires_grad_(False)
    return copied
