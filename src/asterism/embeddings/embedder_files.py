"""The fitted pieces of an item embedder as arrays and JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.embeddings.fusion import FittedPart, FusionModel
from asterism.embeddings.learned_fusion import LearnedFusion
from asterism.embeddings.sentence import SentenceEncoder
from asterism.embeddings.text import TextEncoder
from asterism.embeddings.tfidf import TfidfEncoder

Tensors = dict[str, NDArray[Any]]
_LEARNED = ("first", "bias", "second")


def fusion_tensors(fusion: FusionModel, learned: LearnedFusion | None) -> Tensors:
    """Every array of the fusion by name."""
    tensors: Tensors = {
        "references": fusion.references,
        "known": fusion.known,
        "mean": fusion.mean,
        "axes": fusion.axes,
    }
    for part in fusion.parts:
        tensors |= {f"{part.name}.mean": part.mean, f"{part.name}.axes": part.axes}
    if learned:
        tensors |= {f"learned.{name}": getattr(learned, name) for name in _LEARNED}
    return tensors


def read_fusion(described: Mapping[str, Any], tensors: Tensors) -> FusionModel:
    """The fusion that `described` and `tensors` hold; raises `KeyError` where they do not fit each other."""
    parts = tuple(_read_part(one, tensors) for one in described["parts"])
    return FusionModel(
        parts, tensors["references"], tensors["known"], tensors["mean"], tensors["axes"], described["width"]
    )


def read_learned(described: Mapping[str, Any], tensors: Tensors, fusion: FusionModel) -> LearnedFusion | None:
    """The learned fusion, where one was fitted; raises `ValueError` where it does not fit the linear one."""
    if described.get("fusion", "linear") == "linear":
        return None
    learned = LearnedFusion(*(tensors[f"learned.{name}"] for name in _LEARNED))
    inputs, hidden = learned.first.shape
    if (inputs, learned.bias.shape, learned.second.shape) != (len(fusion.mean), (hidden,), (hidden, fusion.width)):
        raise ValueError("the learned fusion has other widths than the linear one")
    if not all(np.isfinite(one).all() for one in (learned.first, learned.bias, learned.second)):
        raise ValueError("the learned fusion holds numbers that are not finite")
    return learned


def describe_encoder(encoder: TextEncoder | None, tensors: Tensors) -> dict[str, Any] | None:
    """What it takes to have the text encoder again; its arrays join `tensors`."""
    if isinstance(encoder, TfidfEncoder):
        tensors |= {"tfidf.inverse_frequency": encoder.inverse_frequency, "tfidf.projection": encoder.projection}
        return {"kind": "tfidf", "vocabulary": encoder.vocabulary}
    return {"kind": "sentence", "model": encoder.name} if encoder else None


def read_encoder(described: Mapping[str, Any] | None, tensors: Tensors) -> TextEncoder | None:
    """The text encoder, not loaded yet."""
    if described is None:
        return None
    if described["kind"] == "sentence":
        return SentenceEncoder(described["model"])
    vocabulary = tuple(described["vocabulary"])
    return TfidfEncoder(vocabulary, tensors["tfidf.inverse_frequency"], tensors["tfidf.projection"])


def _read_part(described: Mapping[str, Any], tensors: Tensors) -> FittedPart:
    name = described["name"]
    return FittedPart(name, tensors[f"{name}.mean"], tensors[f"{name}.axes"], described["weight"])
