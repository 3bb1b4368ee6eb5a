"""Settings of runs over the workshop's market that take seconds."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "name": "market",
    "data": {"path": "market"},
    "embeddings": {"text_model": "tfidf", "width": 16},
    "semantic_ids": {"codes": 8, "levels": 3},
    "training": {"epochs": 1, "learning_rate": 0.01, "warmup_steps": 1, "average_epochs": 0},
    "decoding": {"beam": 40, "choose_weights": False},
}
TINY_LANGUAGE: dict[str, Any] = {
    **TINY,
    "model": {"kind": "llm", "max_events": 10},
    "llm": {
        "batch_tokens": 512,
        "shape": {"width": 16, "layers": 1, "heads": 2, "key_value_heads": 1, "feed_forward": 24, "vocabulary": 300},
    },
}
