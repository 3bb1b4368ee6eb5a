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
from asterism.embeddings.cache import default_cache_folder
from asterism.embeddings.cooccurrence import cooccurrence_part
from asterism.embeddings.fusion import FittedPart, FusionModel, fit_fusion
from asterism.embeddings.part import Part
from asterism.embeddings.precomputed import column_name, precomputed_part
from asterism.embeddings.sentence import SentenceEncoder
from asterism.embeddings.structured import structured_part
from asterism.embeddings.text import TextEncoder, fit_text, text_part
from asterism.embeddings.texts import item_texts
from asterism.embeddings.tfidf import TfidfEncoder

COLLABORATIVE_WIDTH: Final = 128

TEXT: Final = "text"
COLLABORATIVE: Final = "collaborative"
STRUCTURED: Final = "structured"


@dataclass(frozen=True, slots=True)
class ItemEmbedder:
    """What it takes to embed an item: the text encoder, the fields, and the fitted fusion."""

    text_fields: tuple[str, ...]
    text_encoder: TextEncoder | None  # None where no item had any text
    text_identity: str  # the encoder's identity at the time of fitting
    fusion: FusionModel

    @classmethod
    def fit(
        cls, items: pa.Table, train: Sequences, config: EmbeddingConfig, seed: int = 0, cache: Path | None = None
    ) -> tuple[ItemEmbedder, NDArray[np.float32]]:
        """Fit on a catalogue and return the embedder with the (N, config.width) vectors of its items.

        Row i of `items` is the item that `train` calls i; `train` holds training events only. Text vectors
        are cached in `cache` (default: `default_cache_folder()`). Raises `DataError` on broken columns and
        where no item has anything to be embedded by; warns `TextFallbackWarning` without the text model.
        """
        parts: dict[str, Part] = {}
        encoder: TextEncoder | None = None
        texts = item_texts(items, config.text_fields)
        if config.text_weight > 0 and any(texts):
            encoder, parts[TEXT] = fit_text(texts, config.text_model, seed, cache or default_cache_folder())
        if config.collaborative_weight > 0:
            width = min(COLLABORATIVE_WIDTH, config.width)
            parts[COLLABORATIVE] = cooccurrence_part(train, items.num_rows, width, seed)
        if config.structured_weight > 0:
            parts[STRUCTURED] = structured_part(items)
        parts |= {column_name(name): precomputed_part(items, column_name(name)) for name in config.precomputed}
        fusion, vectors = fit_fusion(parts, _weights(config), config.width)
        return cls(config.text_fields, encoder, encoder.identity() if encoder else "", fusion), vectors

    @property
    def width(self) -> int:
        """The width of the fused vectors."""
        return self.fusion.width

    def embed(self, items: pa.Table) -> NDArray[np.float32]:
        """(M, width) vectors of items that nobody has touched yet; their collaborative part is filled in.

        Raises `MissingDependencyError` where the text model is gone, `ModelError` where it is another one than
        at fitting, and `DataError` on broken columns.
        """
        wanted = {part.name for part in self.fusion.parts}
        parts: dict[str, Part] = {STRUCTURED: structured_part(items)}
        texts = item_texts(items, self.text_fields)
        if TEXT in wanted and any(texts):
            parts[TEXT] = text_part(texts, self._checked_encoder().encode)
        for name in wanted - {TEXT, COLLABORATIVE, STRUCTURED}:
            if name in items.column_names and items[name].null_count < items.num_rows:
                parts[name] = precomputed_part(items, name)
        return self.fusion.transform(parts)

    def save(self, arrays: Path, description: Path) -> None:
        """Write the fitted arrays as safetensors and everything else as JSON."""
        fusion = self.fusion
        tensors: dict[str, NDArray[Any]] = {
            "references": fusion.references,
            "known": fusion.known,
            "mean": fusion.mean,
            "axes": fusion.axes,
        }
        for part in fusion.parts:
            tensors |= {f"{part.name}.mean": part.mean, f"{part.name}.axes": part.axes}
        described = {
            "width": fusion.width,
            "parts": [{"name": part.name, "weight": part.weight} for part in fusion.parts],
            "text_fields": self.text_fields,
            "text_identity": self.text_identity,
            "text": _describe_encoder(self.text_encoder, tensors),
        }
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, arrays)
        description.write_text(json.dumps(described, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, arrays: Path, description: Path) -> ItemEmbedder:
        """Read what `save` wrote; raises `BundleError` where a file is missing, cut or does not fit the other."""
        try:
            tensors = load_file(arrays)
            described = json.loads(description.read_text(encoding="utf-8"))
            parts = tuple(_load_part(one, tensors) for one in described["parts"])
            fusion = FusionModel(
                parts, tensors["references"], tensors["known"], tensors["mean"], tensors["axes"], described["width"]
            )
            encoder = _load_encoder(described["text"], tensors)
            return cls(tuple(described["text_fields"]), encoder, described["text_identity"], fusion)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise BundleError(f"{description} and {arrays} do not hold an item embedder ({error!r})") from error

    def _checked_encoder(self) -> TextEncoder:
        if self.text_encoder is None:
            raise ModelError("the embedder was fitted with texts but holds no text encoder; fit it again")
        found = self.text_encoder.identity()
        if found != self.text_identity:
            raise ModelError(
                "the text model here is not the one that the embedder was fitted with "
                f"(identity {found[:12]}, fitted with {self.text_identity[:12]}); install that one or train again"
            )
        return self.text_encoder


def _weights(config: EmbeddingConfig) -> dict[str, float]:
    return {
        TEXT: config.text_weight,
        COLLABORATIVE: config.collaborative_weight,
        STRUCTURED: config.structured_weight,
        **{column_name(name): weight for name, weight in config.precomputed.items()},
    }


def _describe_encoder(encoder: TextEncoder | None, tensors: dict[str, NDArray[Any]]) -> dict[str, Any] | None:
    if isinstance(encoder, TfidfEncoder):
        tensors |= {"tfidf.inverse_frequency": encoder.inverse_frequency, "tfidf.projection": encoder.projection}
        return {"kind": "tfidf", "vocabulary": encoder.vocabulary}
    return {"kind": "sentence", "model": encoder.name} if encoder else None


def _load_encoder(described: Mapping[str, Any] | None, tensors: dict[str, NDArray[Any]]) -> TextEncoder | None:
    if described is None:
        return None
    if described["kind"] == "sentence":
        return SentenceEncoder(described["model"])
    vocabulary = tuple(described["vocabulary"])
    return TfidfEncoder(vocabulary, tensors["tfidf.inverse_frequency"], tensors["tfidf.projection"])


def _load_part(described: Mapping[str, Any], tensors: dict[str, NDArray[Any]]) -> FittedPart:
    name = described["name"]
    return FittedPart(name, tensors[f"{name}.mean"], tensors[f"{name}.axes"], described["weight"])
