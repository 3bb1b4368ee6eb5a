"""Requests a second of the engine, of its model without it, and of a language model; each at its best batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from decoding_parts.forms import eager_forms, inference_forms
from decoding_parts.language_model import SPECIALS, LanguageModel
from decoding_parts.rounds import Figures, Work, interleaved
from decoding_parts.world import CODES, LEVELS, World

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: What each side is made of, whichever of its works is the fastest.
SIDES = {
    "engine": ("fp32", "bf16"),
    "eager": ("reference fp32", "reference bf16"),
    "transformers, codes alone": ("codes fp32", "codes bf16"),
    "transformers, whole vocabulary": ("vocabulary fp32", "vocabulary bf16"),
}


def measure_beside(world: World, batches: Sequence[int], rounds: int, requests: int, vocabulary: int) -> dict[str, Any]:
    """Medians of rounds by batch, each side's best, and how many times as fast the engine is."""
    sizes = {"codes": CODES * LEVELS + SPECIALS, "vocabulary": vocabulary}
    models = {
        f"{name} {precision}": LanguageModel(world, size, kind)
        for name, size in sizes.items()
        for precision, kind in KINDS.items()
    }
    by_batch: dict[str, dict[str, Figures]] = {}
    for batch in batches:
        with torch.inference_mode():
            ours = eager_forms(world, batch) | inference_forms(world, batch)
            theirs = {name: model.requests(batch) for name, model in models.items()}
            calls = dict.fromkeys(ours, max(1, requests // batch)) | dict.fromkeys(theirs, 1)
            by_batch[str(batch)] = interleaved(ours | theirs, batch, calls, rounds, f"side by side, batch {batch}")
    best = {side: _best(by_batch, names) for side, names in SIDES.items()}
    engine = best["engine"]["requests_a_second"]
    return {
        "vocabulary": vocabulary,
        "parameters": _parameters(world, models),
        "share_in_catalogue": {name: _share(model) for name, model in models.items()},
        "by_batch": by_batch,
        "best": best,
        "engine_is_faster": {
            side: round(engine / one["requests_a_second"], 2) for side, one in best.items() if side != "engine"
        },
    }


def _best(by_batch: dict[str, dict[str, Figures]], names: Sequence[str]) -> dict[str, Any]:
    found = [
        {"form": name, "batch": int(batch), "requests_a_second": figures[name]["requests_a_second"]}
        for batch, figures in by_batch.items()
        for name in names
    ]
    return max(found, key=lambda one: one["requests_a_second"])


def _parameters(world: World, models: dict[str, LanguageModel]) -> dict[str, int]:
    """Weights of the blocks alone: embeddings are looked up."""
    counted = {
        name: sum(one.numel() for one in model.model.model.layers.parameters()) for name, model in models.items()
    }
    return {"blocks of UGT": sum(one.numel() for one in world.model.blocks.parameters())} | counted


def _share(model: LanguageModel) -> float:
    answer: Work = model.requests(1)
    found = answer()
    assert isinstance(found, torch.Tensor)
    return model.share_in_catalogue(found)
