"""The item embedder: fitted once on a catalogue and its training events, then a vector for any new item."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from asterism.config import EmbeddingConfig
from asterism.core.errors import BundleError, ModelError
from asterism.data.sequences import Sequences
from asterism.embeddings import embedder_files
from asterism.embeddings.cache import default_cache_folder
from asterism.embeddings.contrastive import fit_learned_fusion
from asterism.embeddings.cooccurrence import cooccurrence_part
from asterism.embeddings.fusion import FusionModel, fit_fusion
from asterism.embeddings.image import image_part
from asterism.embeddings.image_encoder import ImageEncoder
from asterism.embeddings.learned_fusion import LearnedFusion
from asterism.embeddings.part import Part
from asterism.embeddings.precomputed import column_name, precomputed_part
from asterism.embeddings.structured import structured_part
from asterism.embeddings.text import TextEncoder, fit_text, text_part
from asterism.embeddings.texts import item_texts

COLLABORATIVE_WIDTH: Final = 128

TEXT: Final = "text"
IMAGE: Final = "image"
COLLABORATIVE: Final = "collaborative"
STRUCTURED: Final = "structured"


@dataclass(frozen=True, slots=True)
class ItemEmbedder:
    """What it takes to embed an item: the encoders, the fields, and the fitted fusion."""

    text_fields: tuple[str, ...]
    fields_by_kind: Mapping[str, tuple[str, ...]]
    text_encoder: TextEncoder | None  # None where no item had any text
    text_identity: str  # the encoder's identity at the time of fitting
    image_encoder: ImageEncoder | None  # None where no model was given
    image_identity: str
    fusion: FusionModel
    learned: LearnedFusion | None  # None where the fusion is linear

    @classmethod
    def fit(
        cls,
        items: pa.Table,
        train: Sequences,
        config: EmbeddingConfig,
        seed: int = 0,
        cache: Path | None = None,
        images: Path | None = None,
    ) -> tuple[ItemEmbedder, NDArray[np.float32]]:
        """Fit on a catalogue and return the embedder with the (N, config.width) vectors of its items.

        Row i of `items` is the item that `train` calls i; `train` holds training events only. Relative paths of
        images start at `images` (default: the working folder). Text and image vectors are cached in `cache`
        (default: `default_cache_folder()`). Raises `DataError` on broken columns and where no item has anything
        to be embedded by, `ModelError` without the image model; warns `TextFallbackWarning` without the text
        model and `ImageWarning` of images that cannot be read.
        """
        cache, images = cache or default_cache_folder(), images or Path()
        by_kind: dict[str, tuple[str, ...]] = config.fields_by_kind.model_dump()
        parts: dict[str, Part] = {}
        text_encoder: TextEncoder | None = None
        texts = item_texts(items, config.text_fields, by_kind)
        if config.text_weight > 0 and any(texts):
            text_encoder, parts[TEXT] = fit_text(texts, config.text_model, seed, cache)
        image_encoder = _image_encoder(config)
        if image_encoder:
            parts[IMAGE] = image_part(items, image_encoder, images, cache)
        parts |= _parts_without_model(items, train, config, seed)
        fusion, vectors = fit_fusion(parts, _weights(config), config.width)
        learned: LearnedFusion | None = None
        if config.fusion == "contrastive":
            learned = fit_learned_fusion(fusion, fusion.join(parts), train, seed)
            vectors = _fuse(fusion, learned, parts)
        embedder = cls(
            text_fields=config.text_fields,
            fields_by_kind=by_kind,
            text_encoder=text_encoder,
            text_identity=text_encoder.identity() if text_encoder else "",
            image_encoder=image_encoder,
            image_identity=image_encoder.identity() if image_encoder else "",
            fusion=fusion,
            learned=learned,
        )
        return embedder, vectors

    @property
    def width(self) -> int:
        """The width of the fused vectors."""
        return self.fusion.width

    def embed(self, items: pa.Table, images: Path | None = None) -> NDArray[np.float32]:
        """(M, width) vectors of items that nobody has touched yet; their collaborative part is filled in.

        Relative paths of images start at `images` (default: the working folder). Raises `MissingDependencyError`
        where a model's package is gone, `ModelError` where a model is another one than at fitting, and
        `DataError` on broken columns; warns `ImageWarning` of images that cannot be read.
        """
        wanted = {part.name for part in self.fusion.parts}
        parts: dict[str, Part] = {STRUCTURED: structured_part(items)}
        texts = item_texts(items, self.text_fields, self.fields_by_kind)
        if TEXT in wanted and any(texts):
            encoder = _checked("text", self.text_encoder, self.text_identity)
            parts[TEXT] = text_part(texts, encoder.encode)
        if IMAGE in wanted and _has_values(items, IMAGE):
            pictures = _checked("image", self.image_encoder, self.image_identity)
            found = image_part(items, pictures, images or Path(), cache=None)
            parts |= {IMAGE: found} if found.present.any() else {}
        for name in wanted - {TEXT, IMAGE, COLLABORATIVE, STRUCTURED}:
            if _has_values(items, name):
                parts[name] = precomputed_part(items, name)
        return _fuse(self.fusion, self.learned, parts)

    def save(self, arrays: Path, description: Path) -> None:
        """Write the fitted arrays as safetensors and everything else as JSON."""
        tensors = embedder_files.fusion_tensors(self.fusion, self.learned)
        described = {
            "width": self.fusion.width,
            "parts": [{"name": part.name, "weight": part.weight} for part in self.fusion.parts],
            "fusion": "contrastive" if self.learned else "linear",
            "text_fields": self.text_fields,
            "fields_by_kind": dict(self.fields_by_kind),
            "text_identity": self.text_identity,
            "text": embedder_files.describe_encoder(self.text_encoder, tensors),
            "image_identity": self.image_identity,
            "image_model": self.image_encoder.folder if self.image_encoder else None,
        }
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, arrays)
        description.write_text(json.dumps(described, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, arrays: Path, description: Path) -> ItemEmbedder:
        """Read what `save` wrote; raises `BundleError` where a file is missing, cut or does not fit the other."""
        try:
            tensors = load_file(arrays)
            described = json.loads(description.read_text(encoding="utf-8"))
            fusion = embedder_files.read_fusion(described, tensors)
            image_model = described.get("image_model")  # written since there are image models
            return cls(
                text_fields=tuple(described["text_fields"]),
                fields_by_kind={kind: tuple(own) for kind, own in described.get("fields_by_kind", {}).items()},
                text_encoder=embedder_files.read_encoder(described["text"], tensors),
                text_identity=described["text_identity"],
                image_encoder=ImageEncoder(image_model) if image_model else None,
                image_identity=described.get("image_identity", ""),
                fusion=fusion,
                learned=embedder_files.read_learned(described, tensors, fusion),
            )
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise BundleError(f"{description} and {arrays} do not hold an item embedder ({error!r})") from error


def _fuse(fusion: FusionModel, learned: LearnedFusion | None, parts: Mapping[str, Part]) -> NDArray[np.float32]:
    joined = fusion.join(parts)
    linear = fusion.rotate(joined.rows)
    return learned.transform(joined.rows - fusion.mean, linear) if learned else linear


def _image_encoder(config: EmbeddingConfig) -> ImageEncoder | None:
    """The model that the configuration names; raises `ModelError` at once where it is not there."""
    if config.image_model is None or config.image_weight == 0:
        return None
    encoder = ImageEncoder(config.image_model)
    encoder.identity()
    return encoder


def _parts_without_model(items: pa.Table, train: Sequences, config: EmbeddingConfig, seed: int) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    if config.collaborative_weight > 0:
        width = min(COLLABORATIVE_WIDTH, config.width)
        parts[COLLABORATIVE] = cooccurrence_part(train, items.num_rows, width, seed)
    if config.structured_weight > 0:
        parts[STRUCTURED] = structured_part(items)
    return parts | {column_name(name): precomputed_part(items, column_name(name)) for name in config.precomputed}


def _checked(what: str, encoder: Any, fitted_with: str) -> Any:
    """The encoder, once it is known to be the one of the fit."""
    if encoder is None:
        raise ModelError(f"the embedder was fitted with {what}s but holds no {what} encoder; fit it again")
    found = encoder.identity()
    if found != fitted_with:
        raise ModelError(
            f"the {what} model here is not the one that the embedder was fitted with "
            f"(identity {found[:12]}, fitted with {fitted_with[:12]}); install that one or train again"
        )
    return encoder


def _has_values(items: pa.Table, column: str) -> bool:
    return column in items.column_names and items[column].null_count < items.num_rows


def _weights(config: EmbeddingConfig) -> dict[str, float]:
    return {
        TEXT: config.text_weight,
        IMAGE: config.image_weight,
        COLLABORATIVE: config.collaborative_weight,
        STRUCTURED: config.structured_weight,
        **{column_name(name): weight for name, weight in config.precomputed.items()},
    }
