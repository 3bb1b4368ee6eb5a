"""Causal language models of the transformers library: opened from a folder or a hub, or built from a shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from asterism.config.llm import LLMShape
from asterism.core.errors import ModelError
from asterism.models.llm.tokenizers import require_transformers

#: Attention that takes any mask of which position sees which, and needs no extra package.
_ATTENTION: Final = "sdpa"
_PROBE_TOKENS: Final = 8


def build_model(shape: LLMShape, tokenizer: Any) -> Any:
    """A model with random weights for a tokenizer that already knows the semantic ids."""
    require_transformers()
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        shape.family,
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.width // shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.context,
        attention_dropout=shape.dropout,
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation=_ATTENTION
    )


def open_model(source: str) -> tuple[Any, Any]:
    """The (model, tokenizer) of a folder, or of a hub's name that is at hand or can be fetched; in fp32.

    Raises `ModelError` where they cannot be loaded, or the model is not one that can be decoded by shared prompts.
    """
    require_transformers()
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    _check_folder(source)
    plain = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation=_ATTENTION)
        model.generation_config = plain  # what the folder says of generating is never used here
    except Exception as error:  # loading runs other people's code and files: what it may raise is open
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise ModelError(
            f"the language model {source!r} cannot be loaded ({type(error).__name__}: {reason[0]}); it must be a "
            "folder with config.json, the weights and the tokenizer, or the name of such a model on the hub"
        ) from error
    check_supported(model, source)
    return model, tokenizer


@torch.no_grad()
def check_supported(model: Any, source: str) -> None:
    """Refuse what constrained decoding would get wrong: windows of attention, and heads that are no linear map.

    Raises `ModelError`.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ModelError(
            f"{source} has layers of {', '.join(sorted(kinds - {'full_attention'}))}, and a shared prompt needs full "
            "attention; take a model of the Qwen2, Qwen3 or Llama family"
        )
    tokens = torch.arange(_PROBE_TOKENS, device=model.device)[None] % model.config.vocab_size
    model.eval()
    hidden = hidden_states(model, tokens)
    ours = torch.nn.functional.linear(hidden, *head_of(model))
    theirs = model(input_ids=tokens, use_cache=False).logits
    if not torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3):
        raise ModelError(
            f"the output head of {source} is more than a linear map, so it cannot be asked for single codes; take a "
            "model of the Qwen2, Qwen3 or Llama family"
        )


def hidden_states(model: Any, tokens: Tensor, **more: Any) -> Tensor:
    """(B, T) tokens → (B, T, D) what the output head reads."""
    states: Tensor = decoder_of(model)(input_ids=tokens, use_cache=False, **more).last_hidden_state
    return states


def decoder_of(model: Any) -> Any:
    """The model without its output head."""
    return model.get_decoder()


def layers_of(model: Any) -> list[nn.Module]:
    """The transformer layers, as the model's own family names them."""
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    return [one for one in model.modules() if type(one).__name__ in kinds]


def head_of(model: Any) -> tuple[Tensor, Tensor | None]:
    """Weight (V, D) and bias (V,) of the output head."""
    head = model.get_output_embeddings()
    return head.weight, getattr(head, "bias", None)


def context_of(model: Any) -> int:
    """Positions that the model knows."""
    return int(model.config.max_position_embeddings)


def _check_folder(source: str) -> None:
    """A folder without a readable config.json, or of another family's architecture, is told of at once."""
    folder = Path(source)
    if not folder.is_dir():
        return
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no model that can be read (config.json: {error})") from error
    names = raw.get("architectures") or []
    if names and not any("CausalLM" in name or "LMHead" in name for name in names):
        raise ModelError(f"{folder} holds a {names[0]}, which writes no text; name a causal language model")
