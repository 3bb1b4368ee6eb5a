"""A trained UGT on disk: its weights, and the shape that they fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asterism.config import ModelConfig
from asterism.core.errors import BundleError
from asterism.models.ugt.model import UGT, ItemFeatures, UGTShape

_GAIN = "pooling.gain"


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
        found = load_file(weights)
    except SafetensorError as error:
        raise BundleError(f"{weights} is not a safetensors file ({error}); train the bundle again") from error
    if _GAIN in found:  # a scalar in older bundles
        found[_GAIN] = found[_GAIN].reshape(1)
    if misfits := _misfits(model.state_dict(), found):
        raise BundleError(
            f"{weights} does not fit the model in {description} as this version builds it: {', '.join(misfits[:5])}"
            f"{' …' if len(misfits) > 5 else ''}; train the bundle again, or use the version that wrote it"
        )
    model.load_state_dict(found)
    return model.eval()


def _misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    missing = [f"no {name}" for name in wanted if name not in found]
    strange = [f"{name} is not known" for name in found if name not in wanted]
    wrong = [
        f"{name} is {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    return missing + strange + wrong


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
