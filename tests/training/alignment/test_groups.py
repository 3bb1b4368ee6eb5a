"""Groups on their way to steps: what is told of a step is about its own groups, and of each question once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asterism.training.alignment.distribution import Candidates
from asterism.training.alignment.groups import Groups, Tally, averaged, joined, split
from asterism.training.alignment.lessons import Figures

QUESTIONS = 64  # of a roll-out, and groups of a step


def rolled_out(number: int, kept: int) -> Groups:
    """A roll-out of which `kept` groups have signal; its divergence is its number."""
    figures = Figures(reward=0.5, signal=kept / QUESTIONS, kl=float(number), entropy=1.0)
    return Groups(
        rows=np.full(kept, number, dtype=np.int64),
        candidates=Candidates(torch.zeros(kept, 2, dtype=torch.long), torch.zeros(kept, 2)),
        picked=torch.zeros(kept, 2, dtype=torch.long),
        present=torch.ones(kept, 2, dtype=torch.bool),
        advantages=torch.zeros(kept, 2),
        reference=torch.zeros(kept, 2, 1),
        tallies=(Tally(QUESTIONS, kept, figures),),
    )


def steps_of(kept: list[int]) -> list[Groups]:
    """The groups of each step, as they come from one roll-out after another."""
    ready, waiting = [], rolled_out(0, kept[0])
    for number, count in enumerate(kept[1:], start=1):
        waiting = joined(waiting, rolled_out(number, count))
        while len(waiting.rows) >= QUESTIONS:
            first, rest = split(waiting, QUESTIONS)
            ready.append(first)
            waiting = rest if rest is not None else rolled_out(number, 0)._replace(tallies=())
    return [*ready, waiting]


def test_a_step_tells_of_the_roll_outs_that_its_groups_are_from() -> None:
    first, second, third, *_ = steps_of([40, 40, 40, 40, 40, 40])
    assert first.rows.tolist() == [0] * 40 + [1] * 24
    assert averaged(first.tallies).kl == pytest.approx(24 / 64)
    assert averaged(second.tallies).kl == pytest.approx((16 * 1 + 40 * 2 + 8 * 3) / 64)
    assert averaged(third.tallies).kl == pytest.approx((32 * 3 + 32 * 4) / 64)
    assert averaged(third.tallies).signal == pytest.approx(40 / 64)


def test_every_question_is_told_of_once() -> None:
    kept = np.random.default_rng(0).integers(0, 60, 200).tolist()
    steps = steps_of(kept)
    told = [one for step in steps for one in step.tallies]
    assert sum(one.questions for one in told) == pytest.approx(200 * QUESTIONS)
    assert sum(one.groups for one in told) == sum(kept)
    signal = sum(one.questions * one.figures.signal for one in told) / (200 * QUESTIONS)
    assert signal == pytest.approx(sum(kept) / (200 * QUESTIONS)), "roll-outs without a group among them"
    for step in steps:
        of_groups = set(step.rows.tolist())
        assert of_groups == {one.figures.kl for one in step.tallies if one.groups}


def test_a_roll_out_without_a_group_is_told_of_with_the_next_step() -> None:
    first, rest = steps_of([40, 0, 40, 3])
    assert [one.figures.kl for one in first.tallies] == [0, 1, 2]
    assert [(one.questions, one.groups) for one in first.tallies] == [(64, 40), (64, 0), (pytest.approx(38.4), 24)]
    assert [one.figures.kl for one in rest.tallies] == [2, 3]


def test_waiting_groups_survive_a_checkpoint() -> None:
    *_, waiting = steps_of([40, 40, 0])
    again = Groups.of_dict(waiting.as_dict())
    assert again.tallies == waiting.tallies
    assert again.rows.tolist() == waiting.rows.tolist() == [1] * 16
    assert torch.equal(again.candidates.items, waiting.candidates.items)
