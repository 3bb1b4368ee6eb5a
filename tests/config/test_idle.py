"""Settings that would change nothing are refused where they would be used, and open where they were written before."""

from __future__ import annotations

from pathlib import Path

import pytest

from asterism.config import RunConfig, load_run_config, parse_run_config
from asterism.config.idle import has_untaught_item_head, refuse_idle_alignment, refuse_idle_training
from asterism.core.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
LLM = {"model": {"kind": "llm"}}


def config(**sections: dict[str, object]) -> RunConfig:
    return parse_run_config({"name": "x", "data": {"path": "y"}, **sections})


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        (
            {**LLM, "training": {"preference_weight": 0.1}},
            r"`training\.preference_weight` weighs a term .* set it to 0",
        ),
        ({**LLM, "training": {"alignment_weight": 0.1}}, r"`training\.alignment_weight` weighs a term of the UGT's"),
        ({**LLM, "decoding": {"precision": "bf16"}}, r"`decoding\.precision` = 'bf16' is for a UGT on a CPU"),
        (
            {"training": {"item_loss_weight": 0}, "decoding": {"kept": 20}},
            r"`decoding\.kept` = 20 lets the item head choose, which .* leaves untaught",
        ),
    ],
)
def test_training_refuses_what_it_would_not_hear(sections: dict[str, dict[str, object]], sentence: str) -> None:
    asked = config(**sections)  # a bundle that was written with it can be read
    with pytest.raises(ConfigError, match=sentence):
        refuse_idle_training(asked)


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"alignment": {"mode": "lora"}}, r"`alignment\.mode` = 'lora' .* this is a UGT"),
        (
            {"alignment": {"label_smoothing": 0.1}},
            r"`alignment\.label_smoothing` = 0\.1 .* `alignment\.softmax` = false",
        ),
        (
            {"alignment": {"held_out": 0.5, "rejected": "both"}},
            r"`alignment\.rejected` = 'both' .* `rejected` = 'beam'",
        ),
        ({"alignment": {"held_out": 0.5, "rejected": "logged"}}, r"`alignment\.rejected` = 'logged' .* `held_out` = 0"),
    ],
)
def test_alignment_refuses_what_it_would_not_hear(sections: dict[str, dict[str, object]], sentence: str) -> None:
    asked = config(**sections)
    with pytest.raises(ConfigError, match=sentence):
        refuse_idle_alignment(asked)


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"preference_weight": 0.1, "alignment_weight": 0.1}, "decoding": {"precision": "bf16", "kept": 9}},
        {"training": {"item_loss_weight": 0, "preference_weight": 0.1}, "decoding": {"kept": 20}},
        {**LLM, "training": {"item_loss_weight": 0}, "decoding": {"kept": 20}, "alignment": {"mode": "lora"}},
        {"alignment": {"softmax": False, "label_smoothing": 0.1, "rejected": "both"}},
        {"alignment": {"method": "grpo", "label_smoothing": 0.1, "held_out": 0.5, "rejected": "both"}},
    ],
)
def test_what_is_heard_is_not_refused(sections: dict[str, dict[str, object]]) -> None:
    refuse_idle_training(config(**sections))
    refuse_idle_alignment(config(**sections))


def test_no_shipped_run_asks_for_what_is_not_heard() -> None:
    for file in CONFIGS.glob("*.toml"):
        run = load_run_config(file)
        refuse_idle_training(run)
        refuse_idle_alignment(run)
        assert not has_untaught_item_head(run)
