"""What of a language model learns: all of it, low-rank adapters, or the rows of the semantic ids alone."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from asterism.config.llm import TrainingMode
from asterism.core.errors import MissingDependencyError
from asterism.models.llm.rows import GrownEmbedding

#: The adapters' update is scaled by alpha / rank (Hu et al. 2021); this is that ratio.
_LORA_SCALE: Final = 2


def make_trainable(causal: Any, tokens: Tensor, mode: TrainingMode, lora_rank: int) -> Any:
    """Freeze what `mode` does not train; returns the adapters, if there are any, for `merge`.

    `tokens` (n,) are those of the semantic ids: their rows learn in every mode but `none`. Raises
    `MissingDependencyError` where adapters are asked for and peft is not installed.
    """
    if mode == "full":
        return None
    causal.requires_grad_(False)
    if mode == "none":
        return None
    adapters = _add_adapters(causal, lora_rank) if mode == "lora" else None
    grown = GrownEmbedding(causal, tokens.to(causal.device))
    causal.set_input_embeddings(grown)
    return adapters


def merge(causal: Any, adapters: Any) -> None:
    """Make a plain model of the library again that computes the same: rows put back, adapters added in."""
    inputs = causal.get_input_embeddings()
    if isinstance(inputs, GrownEmbedding):
        inputs.put_back(causal)
    if adapters is not None:
        adapters.merge_and_unload()


def trainable_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters that learn, by name, each once."""
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def _add_adapters(causal: Any, rank: int) -> Any:
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise MissingDependencyError("mode `lora` needs peft; run `pip install 'asterism[llm]'`") from error
    config = LoraConfig(r=rank, lora_alpha=_LORA_SCALE * rank, target_modules="all-linear")
    return LoraModel(causal, config, "default")
