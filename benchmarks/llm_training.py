"""How much of the machine a language model's training uses: supervised steps and GRPO steps, with the MFU of each.

    python benchmarks/llm_training.py                               # 0.5 B weights, as Qwen2.5-0.5B has them
    python benchmarks/llm_training.py --width 128 --layers 4 --heads 4 --key-value-heads 4 --feed-forward 384

Random weights, a random catalogue, bf16 with fp32 weights and AdamW, on the CUDA device where there is one, else on the
CPU's threads. Model FLOPs (Chowdhery et al. 2022, appendix B): a token costs 2 N forward and 4 N backward, N being the
weights of the layers, and 4 L D S forward for the scores of attention over S positions; embeddings and the head, of
which only codes' rows are asked, are left out, so that the share is an under-estimate. MFU is that over the time of a
step, as a share of the speed that the same run measures for one large product in bf16, and of `--peak-tflops` where it
is given. Medians; ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from asterism.config import AlignmentConfig, DecodingConfig, LLMConfig, LLMShape, TrainingConfig
from asterism.core import records
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Cases, Sequences
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.trie import Trie
from asterism.models.llm import LLM, LanguageModel
from asterism.models.llm.backbone import build_model, layers_of
from asterism.models.llm.tokenizers import train_tokenizer
from asterism.models.llm.vocabulary import add_code_tokens
from asterism.training.alignment.distribution import ItemDistribution
from asterism.training.alignment.grpo import GroupRelative
from asterism.training.alignment.questions import Questions
from asterism.training.alignment.rewards import hit_rewards
from asterism.training.alignment.rollouts import Roller
from asterism.training.loop import make_optimizer
from asterism.training.sft import supervised_course
from llm_decoding import catalogue, histories_of
from peers import commit

Row = dict[str, float]
OPTIONS = (
    ("users", 64, "with a history each, all of whom are asked in a GRPO step"),
    ("events", 20, "of a history"),
    ("items", 10_000, "of the catalogue"),
    ("codes", 256, "a level, of three"),
    ("vocabulary", 150_000, "tokens"),
    ("width", 896, "of the model"),
    ("layers", 24, "of the model"),
    ("heads", 14, "of attention"),
    ("key-value-heads", 2, "that heads share"),
    ("feed-forward", 4864, "inside a layer"),
    ("batch-tokens", 8192, "of a supervised step"),
    ("group", 16, "items of a GRPO group"),
    ("steps", 10, "measured of each kind, after one that is not"),
    ("product", 4096, "rows and columns of the product that stands for the machine's speed"),
)


def main() -> None:
    """Parse the arguments, build the model, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value, what in OPTIONS:
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{what} (default {value})")
    parser.add_argument("--peak-tflops", type=float, help="of the device in bf16, by its data sheet")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = catalogue(options.items, 3, options.codes)
    model = language_model(options, table).to(device)
    histories = histories_of(options)
    speed = product_flops(options.product, device)
    steps = {"supervised": supervised(model, histories, options), "grpo": grpo(model, table, histories, options)}
    for name, (seconds, flops, more) in steps.items():
        steps[name] = {
            "step_ms": round(1000 * seconds, 1),
            "model_tflops": round(flops / seconds / 1e12, 3),
            "share_of_product": round(flops / seconds / speed, 4),
            "mfu": None if options.peak_tflops is None else round(flops / seconds / options.peak_tflops / 1e12, 4),
            **more,
        }
        print(f"{name}: {steps[name]}", flush=True)
    found = {
        "benchmark": "llm_training",
        "commit": commit(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "weights_millions": round(sum(one.numel() for one in model.parameters()) / 1e6, 1),
        "product_tflops": round(speed / 1e12, 3),
        **{name: getattr(options, name.replace("-", "_")) for name, _, _ in OPTIONS},
        **steps,
    }
    print(json.dumps(found))


def language_model(options: argparse.Namespace, table: SemanticIdTable) -> LLM:
    """A Qwen2 with random weights, one matrix for both ends of its vocabulary."""
    tokenizer = train_tokenizer(["an item of a catalogue"], 300, 2048)
    add_code_tokens(tokenizer, table.codebook_sizes)
    tokenizer.add_tokens([f"<word_{number}>" for number in range(options.vocabulary - len(tokenizer))])
    torch.manual_seed(0)
    shape = LLMShape(
        family="qwen2",
        width=options.width,
        layers=options.layers,
        heads=options.heads,
        key_value_heads=options.key_value_heads,
        feed_forward=options.feed_forward,
        context=2048,
    )
    config = LLMConfig(prompt="The user's items: {history}", batch_tokens=options.batch_tokens)
    return LLM(LanguageModel(build_model(shape, tokenizer), tokenizer, "a benchmark"), table, config, options.events)


def supervised(model: LLM, histories: Sequences, options: argparse.Namespace) -> tuple[float, float, Row]:
    """Seconds and model FLOPs of a step on packed examples: batch, loss, gradients, update."""
    items = pa.table({records.TITLE: [f"item {number}" for number in range(options.items)]})
    course = supervised_course(model.train(), items, histories, 0)
    optimizer = make_optimizer(course.objective, TrainingConfig())
    batches = _endless(course.batches)
    flops: list[float] = []

    def step() -> None:
        batch = course.make_batch(next(batches)).to(_device(model))
        with torch.autocast(_device(model).type, torch.bfloat16):
            total = course.objective(batch).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        tokens, positions = course.size(batch)
        flops.append(3 * forward_flops(model, tokens, batch.tokens.shape[1]))
        filled.append(tokens / positions)

    filled: list[float] = []
    seconds = _seconds(step, options.steps, _device(model))
    return seconds, statistics.median(flops[1:]), {"filled": round(statistics.median(filled), 3)}


def grpo(
    model: LLM, table: SemanticIdTable, histories: Sequences, options: argparse.Namespace
) -> tuple[float, float, Row]:
    """Seconds and model FLOPs of a step: roll-outs by constrained beam search, a frozen reference, one update."""
    users = len(histories)
    last = histories.offsets[1:] - 1
    cases = Cases(
        histories,
        np.arange(users, dtype=np.int32),
        histories.items[last],
        histories.timestamps[last],
        histories.actions[last],
    )
    questions = Questions(cases, np.ones(users, np.float32), np.full((users, 1), -1, np.int32), histories)
    order = ItemDistribution.of("codes", table, DecodingConfig(item_weight=0.0, code_weight=1.0), HistoryHeads())
    config = AlignmentConfig(
        method="grpo", score="codes", batch_users=users, group=options.group, candidates=options.group
    )
    roller = Roller(Trie.from_table(table).snapshot(), order, options.group)
    method = GroupRelative(model, questions, roller, lambda drawn: hit_rewards(drawn.items, drawn.targets), config, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    lessons = method.lessons(model, iter([np.arange(users)] * (options.steps + 1)))

    def step() -> None:
        with torch.autocast(_device(model).type, torch.bfloat16):
            lesson = next(lessons)
        optimizer.zero_grad()
        lesson.loss.backward()
        optimizer.step()

    seconds = _seconds(step, options.steps, _device(model))
    prompt = int(
        model.prompt.write(torch.from_numpy(histories.items.reshape(users, -1)).long(), model.paths).lengths[0]
    )
    read = forward_flops(model, users * prompt, prompt)
    beam = forward_flops(model, users * options.group * (model.spoken - 1), prompt)
    # The beam and the reference go forward; the update goes forward and backward over the same prompts and paths.
    return seconds, 5 * (read + beam), {"prompt_tokens": prompt}


def forward_flops(model: LLM, tokens: int, positions: int) -> float:
    """Of the layers' products and of attention's scores, for so many tokens that each see `positions` at most."""
    layers = layers_of(model.language)
    weights = sum(one.numel() for layer in layers for one in layer.parameters())
    width = model.language.config.hidden_size
    return float(tokens) * (2 * weights + 4 * len(layers) * width * positions)


def product_flops(size: int, device: torch.device) -> float:
    """FLOPs a second of one large product in bf16, the best of five."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * size**3 / min(_timed(lambda: left @ right, device) for _ in range(5))


def _seconds(step: Callable[[], None], steps: int, device: torch.device) -> float:
    taken = [_timed(step, device) for _ in range(steps + 1)]
    return statistics.median(taken[1:])


def _timed(step: Callable[[], object], device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - started


def _endless(batches: Any) -> Iterator[list[int]]:
    while True:
        yield from batches
        batches.epoch += 1


def _device(model: LLM) -> torch.device:
    return next(model.parameters()).device


if __name__ == "__main__":
    main()
