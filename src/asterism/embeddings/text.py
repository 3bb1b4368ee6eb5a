"""The text part: which encoder, its fallback, and the cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import MissingDependencyError
from asterism.core.hashing import hash_texts
from asterism.embeddings.cache import cached_array
from asterism.embeddings.part import Part
from asterism.embeddings.sentence import SentenceEncoder
from asterism.embeddings.tfidf import TfidfEncoder

TFIDF = "tfidf"
TFIDF_WIDTH = 256
TextEncoder = SentenceEncoder | TfidfEncoder


class TextFallbackWarning(UserWarning):
    """The text model cannot be had, so TF-IDF with truncated SVD takes its place."""


class FittedText(NamedTuple):
    """An encoder, and what it made of the texts it was chosen for."""

    encoder: TextEncoder
    part: Part


def fit_text(texts: list[str], model: str, seed: int, cache: Path) -> FittedText:
    """Encode texts by a sentence model, or by TF-IDF where `model` is "tfidf" or cannot be had (with a warning)."""
    if model != TFIDF:
        encoder = SentenceEncoder(model)
        source = {"texts": hash_texts(texts), "model": encoder.identity(), "what": "sentence vectors, bf16"}
        try:
            part = text_part(texts, lambda some: cached_array(cache, source, lambda: encoder.encode(some)))
            return FittedText(encoder, part)
        except MissingDependencyError as error:
            warnings.warn(f"{error}; TF-IDF takes its place", TextFallbackWarning, stacklevel=2)
    tfidf = TfidfEncoder.fit([text for text in texts if text], TFIDF_WIDTH, seed)
    return FittedText(tfidf, text_part(texts, tfidf.encode))


def text_part(texts: list[str], encode: Callable[[list[str]], NDArray[np.float32]]) -> Part:
    """Encode the texts that there are; an item without words, or with none that the encoder knows, has no text part."""
    filled = np.array([bool(text) for text in texts], dtype=np.bool_)
    encoded = encode([text for text in texts if text])
    vectors = np.zeros((len(texts), encoded.shape[1]), dtype=np.float32)
    vectors[filled] = encoded
    return Part(vectors, np.asarray(vectors.any(axis=1)))
