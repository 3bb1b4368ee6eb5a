"""Settings that would change nothing: refused where they would be used, so that bundles that carry one still open."""

from __future__ import annotations

from asterism.config.run import RunConfig
from asterism.core.errors import ConfigError

_TERMS = ("preference_weight", "alignment_weight")


def refuse_idle_training(config: RunConfig) -> None:
    """Raise `ConfigError` where training would leave a wish unheard."""
    training, decoding = config.training, config.decoding
    if config.model.kind == "llm":
        for name in _TERMS:
            if getattr(training, name) > 0:
                raise ConfigError(
                    f"`training.{name}` weighs a term of the UGT's loss, which a language model does not have; set it "
                    "to 0, and teach preferences by `asterism align`"
                )
        if decoding.precision != "fp32":
            raise ConfigError(
                f"`decoding.precision` = {decoding.precision!r} is for a UGT on a CPU, and a language model answers "
                "by its weights as they are; leave it out"
            )
    elif decoding.kept and has_untaught_item_head(config):
        raise ConfigError(
            f"`decoding.kept` = {decoding.kept} lets the item head choose, which `training.item_loss_weight` = 0 "
            "leaves untaught; set `decoding.kept` = 0"
        )


def refuse_idle_alignment(config: RunConfig) -> None:
    """Raise `ConfigError` where `[alignment]` holds a wish that alignment would leave unheard."""
    alignment = config.alignment
    if config.model.kind != "llm" and alignment.mode is not None:
        raise ConfigError(
            f"`alignment.mode` = {alignment.mode!r} says what of a language model learns, and this is a UGT, all of "
            "which learns; leave it out"
        )
    if alignment.method != "dpo":
        return
    if alignment.softmax and alignment.label_smoothing > 0:
        raise ConfigError(
            f"`alignment.label_smoothing` = {alignment.label_smoothing:g} is for DPO pair by pair; set "
            "`alignment.softmax` = false, or leave it out"
        )
    if alignment.held_out > 0 and alignment.rejected != "beam":
        raise ConfigError(
            f"`alignment.rejected` = {alignment.rejected!r} reads what was rejected near training events, and "
            f"`alignment.held_out` = {alignment.held_out:g} asks for others; set `rejected` = 'beam' or `held_out` = 0"
        )


def has_untaught_item_head(config: RunConfig) -> bool:
    """Whether no term of the loss reaches the order of items, so that codes alone were learned."""
    return config.training.item_loss_weight == 0 and config.training.preference_weight == 0
