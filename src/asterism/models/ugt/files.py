"""A trained UGT on disk: its weights, and the shape that they fit."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from asterism.config import ModelConfig
from asterism.core.errors import BundleError
from asterism.models.ugt.model import UGT, ItemFeatures, UGTShape


def save_ugt(model: UGT, weights: Path, description: Path) -> None:
    """Write the weights (safetensors) and the shape (JSON)."""
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    shape = {
        "kind": "ugt",
        "model": model.shape.model.model_dump(),
        "temperature": model.shape.temperature,
        "codebook_sizes": list(model.codebook_sizes),
        "items": model.items.count,
    }
    description.write_text(json.dumps(shape, indent=2), encoding="utf-8")


def load_ugt(weights: Path, description: Path, features: ItemFeatures) -> UGT:
    """Read a UGT for inference; raises `BundleError` where weights, shape and catalogue do not fit."""
    shape = _read_shape(description, features)
    model = UGT(features, shape)
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{weights} does not fit the shape in {description}: {error}") from error
    return model.eval()


def _read_shape(description: Path, features: ItemFeatures) -> UGTShape:
    try:
        raw = json.loads(description.read_text(encoding="utf-8"))
        config = ModelConfig.model_validate(raw["model"])
        sizes, items, temperature = tuple(raw["codebook_sizes"]), int(raw["items"]), float(raw["temperature"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise BundleError(f"{description} does not describe a UGT ({error}); train the bundle again") from error
    if sizes != features.codebook_sizes:
        raise BundleError(
            f"{description}: the model writes codes of sizes {sizes}, the semantic ids have {features.codebook_sizes}"
        )
    if items != len(features.codes):
        raise BundleError(f"{description}: the model knows {items} items, the semantic ids {len(features.codes)}")
    return UGTShape(config, temperature)
