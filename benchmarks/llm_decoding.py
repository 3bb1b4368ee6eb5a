"""Constrained decoding by this library against `generate` with a prefix dictionary, on one model and one trie.

    python benchmarks/llm_decoding.py --rounds 3

Both sides search 20 beams over the same random catalogue with the same weights (a Qwen3-type model with a vocabulary of
150,000 tokens). The peer is transformers' own `generate` with beam search and a `prefix_allowed_tokens_fn` that looks
the prefix up in a dictionary. The sides take turns; what is compared is the median of CPU seconds, and how many items
their lists share. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import GenerationConfig

from asterism.config import DecodingConfig, LLMConfig, LLMShape
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding.generator import Generator
from asterism.models.llm import LLM, LanguageModel
from asterism.models.llm.backbone import build_model
from asterism.models.llm.tokenizers import train_tokenizer
from asterism.models.llm.vocabulary import add_code_tokens
from asterism.models.policy import read_histories

Lists = list[list[int]]


def main() -> None:
    options = options_of(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    torch.set_num_threads(1)
    table = catalogue(options.items, options.levels, options.codes)
    model = language_model(options, table)
    histories = histories_of(options)
    sides: dict[str, Callable[[Sequences], Lists]] = {
        "ours": ours(model, table, options.beams),
        "generate": peer(model, table, options.beams),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, Lists] = {}
    for _ in range(options.rounds):
        for name, side in sides.items():
            started = time.process_time()
            found[name] = side(histories)
            seconds[name].append(time.process_time() - started)
            print(f"{name}: {seconds[name][-1]:.3f} s of CPU for {len(histories)} users")
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    same = [len(set(a) & set(b)) / options.beams for a, b in zip(found["ours"], found["generate"], strict=True)]
    result = {
        "users": len(histories),
        "events": options.events,
        "beams": options.beams,
        "items": options.items,
        "vocabulary": len(model.tokenizer),
        "width": options.width,
        "layers": options.layers,
        "rounds": options.rounds,
        "ours_cpu_seconds": round(medians["ours"], 4),
        "generate_cpu_seconds": round(medians["generate"], 4),
        "times_faster": round(medians["generate"] / medians["ours"], 1),
        "items_in_common": round(float(np.mean(same)), 4),
    }
    print(json.dumps(result))


def options_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The size of model, catalogue and histories."""
    for name, value, what in (
        ("users", 8, "asked together"),
        ("events", 10, "of a history"),
        ("beams", 20, "kept by both"),
        ("items", 4000, "of the catalogue"),
        ("levels", 3, "of a semantic id"),
        ("codes", 256, "a level"),
        ("vocabulary", 150_000, "tokens"),
        ("width", 128, "of the model"),
        ("layers", 4, "of the model"),
        ("rounds", 3, "in which the sides take turns"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{what} (default {value})")
    return parser.parse_args()


def catalogue(items: int, levels: int, codes: int) -> SemanticIdTable:
    """Random items, no two with the same codes."""
    paths = np.random.default_rng(0).choice(codes**levels, items, replace=False)
    return SemanticIdTable(np.stack(np.unravel_index(paths, (codes,) * levels), axis=1), (codes,) * levels)


def language_model(options: argparse.Namespace, table: SemanticIdTable) -> LLM:
    """A Qwen3-type model with random weights whose tokens of one level follow those of the level before."""
    tokenizer = train_tokenizer(["an item of a catalogue"], 300, 1024)
    add_code_tokens(tokenizer, table.codebook_sizes)
    tokenizer.add_tokens([f"<word_{number}>" for number in range(options.vocabulary - len(tokenizer))])
    torch.manual_seed(0)
    shape = LLMShape(width=options.width, layers=options.layers, feed_forward=3 * options.width, tied=False)
    config = LLMConfig(prompt="The user's items: {history}")
    language = LanguageModel(build_model(shape, tokenizer), tokenizer, "a benchmark")
    model = LLM(language, table, config, options.events).eval()
    _speak_in_turn(model)
    return model


@torch.no_grad()
def _speak_in_turn(model: LLM) -> None:
    """Let the weights know, as training would teach them, that a code of one level is followed by one of the next.

    `generate` ranks by the softmax over the whole vocabulary; so the two sides agree on what they look for.
    """
    embeddings, head = model.language.get_input_embeddings().weight, model.language.get_output_embeddings().weight
    turns = torch.nn.functional.normalize(torch.randn(model.spoken, embeddings.shape[1]), dim=1)
    for level in range(model.spoken):
        ids = model.level_ids(level)
        embeddings[ids] = 0.1 * torch.randn(len(ids), embeddings.shape[1]) + 3.0 * turns[(level + 1) % model.spoken]
        head[ids] = 0.2 * torch.randn(len(ids), embeddings.shape[1]) + 3.0 * turns[level]


def histories_of(options: argparse.Namespace) -> Sequences:
    """Random events, equally many a user."""
    events = options.users * options.events
    items = np.random.default_rng(1).integers(0, options.items, events).astype(np.int32)
    offsets = np.arange(0, events + 1, options.events)
    return Sequences(offsets, items, np.arange(events, dtype=np.int64), np.ones(events, np.int8))


def ours(model: LLM, table: SemanticIdTable, beams: int) -> Callable[[Sequences], Lists]:
    """Our constrained beam search."""
    generator = Generator(model, table, DecodingConfig(beam=beams, item_weight=0.0, code_weight=1.0))

    def decode(histories: Sequences) -> Lists:
        lists: Lists = generator.recommend(histories, beams, mode="generate").items.tolist()
        return lists

    return decode


def peer(model: LLM, table: SemanticIdTable, beams: int) -> Callable[[Sequences], Lists]:
    """`generate` with a prefix dictionary."""
    paths = model.paths.tolist()
    item_of = {tuple(path): item for item, path in enumerate(paths)}
    children: dict[tuple[int, ...], list[int]] = {}
    for path in item_of:
        for level in range(len(path)):
            children.setdefault(path[:level], []).append(path[level])
    allowed_after = {prefix: sorted(set(codes)) for prefix, codes in children.items()}
    levels = table.levels
    config = GenerationConfig(
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=levels,
        min_new_tokens=levels,
        do_sample=False,
        pad_token_id=model.tokenizer.pad_token_id,
        eos_token_id=None,
    )

    @torch.inference_mode()
    def decode(histories: Sequences) -> Lists:
        prompts = model.prompt.write(read_histories(model, histories).items, model.paths).tokens
        prompt_tokens = prompts.shape[1]
        done = model.language.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            generation_config=config,
            prefix_allowed_tokens_fn=lambda _, tokens: allowed_after[tuple(tokens[prompt_tokens:].tolist())],
        )
        made = done[:, prompt_tokens:].view(len(prompts), beams, levels).tolist()
        return [[item_of[tuple(path)] for path in row] for row in made]

    return decode


if __name__ == "__main__":
    main()
