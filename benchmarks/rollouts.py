"""What a step of reinforcement learning on a language model costs, and how much of it goes into its roll-outs.

    python benchmarks/rollouts.py --rounds 3
    python benchmarks/rollouts.py --only rollouts --save model/      # also writes the model's folder and the prompts
    vllm-env/bin/python benchmarks/rollouts_vllm.py --model model/   # the same roll-outs by vLLM, in its environment

Steps are those of `asterism align` with GRPO (groups by constrained beam search, a frozen reference, one update a
group) on a Qwen3-type model with random weights, a random catalogue and a vocabulary of 150,000 tokens. The roll-outs
alone are compared with transformers' `generate` under a prefix dictionary on the same weights; the sides take turns.
CPU seconds, medians over rounds. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asterism.config import AlignmentConfig, DecodingConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Cases, Sequences
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.trie import Trie
from asterism.models.llm import LLM
from asterism.models.policy import Policy, read_histories
from asterism.training.alignment.distribution import Candidates, ItemDistribution
from asterism.training.alignment.grpo import GroupRelative
from asterism.training.alignment.questions import Questions
from asterism.training.alignment.rewards import hit_rewards, rank_penalties
from asterism.training.alignment.rollouts import Roller
from llm_decoding import catalogue, histories_of, language_model, options_of, ours, peer


@dataclass(frozen=True, slots=True)
class TimedRoller(Roller):
    """Notes the CPU seconds of its beam searches."""

    seconds: list[float] = field(default_factory=list)

    def candidates(self, policy: Policy, cases: Cases, *, keep_truth: bool) -> tuple[Tensor, Candidates]:
        """See `Roller.candidates`."""
        started = time.process_time()
        found = super(TimedRoller, self).candidates(policy, cases, keep_truth=keep_truth)
        self.seconds.append(time.process_time() - started)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("steps", "rollouts"), default=["steps", "rollouts"])
    parser.add_argument("--save", type=Path, help="a folder for the model and the prompts, as vLLM takes them")
    options = options_of(parser)
    torch.set_num_threads(1)
    table = catalogue(options.items, options.levels, options.codes)
    model = language_model(options, table)
    histories = histories_of(options)
    found: dict[str, Any] = {"benchmark": "rollouts", **{name: getattr(options, name) for name in SHOWN}}
    if options.save is not None:
        save(model, table, histories, options)
    if "rollouts" in options.only:
        found["rollouts"] = rollouts(model, table, histories, options)
    if "steps" in options.only:
        found["steps"] = steps(model, table, histories, options)
    print(json.dumps(found))


SHOWN = ("users", "events", "beams", "items", "vocabulary", "width", "layers", "rounds")


def rollouts(model: LLM, table: SemanticIdTable, histories: Sequences, options: argparse.Namespace) -> dict[str, float]:
    """CPU seconds of both sides, and what share of their items is the same."""
    sides: dict[str, Callable[[Sequences], list[list[int]]]] = {
        "ours": ours(model, table, options.beams),
        "generate": peer(model, table, options.beams),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, list[list[int]]] = {}
    for _ in range(options.rounds):
        for name, side in sides.items():
            with timed(seconds[name]):
                found[name] = side(histories)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    same = [len(set(a) & set(b)) / options.beams for a, b in zip(found["ours"], found["generate"], strict=True)]
    return {
        "ours_cpu_seconds": round(medians["ours"], 4),
        "generate_cpu_seconds": round(medians["generate"], 4),
        "times_faster": round(medians["generate"] / medians["ours"], 1),
        "items_in_common": round(float(np.mean(same)), 4),
    }


def steps(model: LLM, table: SemanticIdTable, histories: Sequences, options: argparse.Namespace) -> dict[str, float]:
    """CPU seconds of a GRPO step by parts: roll-outs, what the frozen reference and rewards cost, and the update."""
    cases = Cases(
        histories,
        np.arange(len(histories), dtype=np.int32),
        histories.items[:: options.events],
        histories.timestamps[:: options.events],
        histories.actions[:: options.events],
    )
    questions = Questions(cases, np.ones(len(cases), np.float32), np.full((len(cases), 1), -1, np.int32), histories)
    weights = DecodingConfig(item_weight=0.0, code_weight=1.0)
    order = ItemDistribution.of("codes", table, weights, HistoryHeads())
    roller = TimedRoller(Trie.from_table(table).snapshot(), order, options.beams)
    config = AlignmentConfig(method="grpo", score="codes", batch_users=len(cases), group=16, candidates=options.beams)
    method = GroupRelative(
        model,
        questions,
        roller,
        lambda drawn: (
            hit_rewards(drawn.items, drawn.targets) + rank_penalties(drawn.items, drawn.targets, drawn.scores)
        ),
        config,
        seed=0,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    whole: list[float] = []
    lessons = method.lessons(model, iter([np.arange(len(cases))] * (options.rounds + 1)))
    for _ in range(options.rounds + 1):
        with timed(whole):
            lesson = next(lessons)
            optimizer.zero_grad()
            lesson.loss.backward()
            optimizer.step()
    step, rolled = statistics.median(whole[1:]), statistics.median(roller.seconds[1:])  # the first makes the moments
    return {
        "step_cpu_seconds": round(step, 4),
        "rollout_cpu_seconds": round(rolled, 4),
        "rollout_share": round(rolled / step, 3),
    }


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Note the CPU seconds of a block."""
    started = time.process_time()
    yield
    seconds.append(time.process_time() - started)


def save(model: LLM, table: SemanticIdTable, histories: Sequences, options: argparse.Namespace) -> None:
    """The model as a folder of the library, and beside it prompts and legal paths as tokens."""
    model.language.save_pretrained(str(options.save))
    model.tokenizer.save_pretrained(str(options.save))
    prompts = model.prompt.write(read_histories(model, histories).items, model.paths)
    rows = [row[:length] for row, length in zip(prompts.tokens.tolist(), prompts.lengths.tolist(), strict=True)]
    about = {"prompts": rows, "beams": options.beams, "levels": table.levels, "rounds": options.rounds}
    (options.save / "rollouts.json").write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    main()
