"""Texts to vectors without a language model: TF-IDF, then truncated SVD (latent semantic analysis)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from asterism.core.hashing import hash_array, hash_texts
from asterism.embeddings.linear import truncated_svd

_WORD = re.compile(r"\w+")
_MAX_WORDS = 30_000


@dataclass(frozen=True, slots=True)
class TfidfEncoder:
    """A fitted vocabulary and its projection."""

    vocabulary: tuple[str, ...]
    inverse_frequency: NDArray[np.float32]  # (words,)
    projection: NDArray[np.float32]  # (words, d)

    @classmethod
    def fit(cls, texts: list[str], width: int, seed: int) -> TfidfEncoder:
        """Learn words and at most `width` axes from texts; equal texts and seed give an equal encoder."""
        frequency = Counter(word for text in texts for word in set(_words(text)))
        common = sorted(frequency, key=lambda word: (-frequency[word], word))[:_MAX_WORDS]
        counts = np.array([frequency[word] for word in common], dtype=np.float32)
        inverse = (np.log((1 + len(texts)) / (1 + counts)) + 1).astype(np.float32)
        weighted = _weigh(texts, tuple(common), inverse)
        return cls(tuple(common), inverse, truncated_svd(weighted, width, seed).right)

    def identity(self) -> str:
        """Changes with the vocabulary and the projection."""
        return f"tfidf-{hash_texts(self.vocabulary)}-{hash_array(self.projection)}"

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, d) vectors; a text without a known word gets zeros."""
        weighted = _weigh(texts, self.vocabulary, self.inverse_frequency)
        return np.asarray(weighted @ self.projection, dtype=np.float32)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _weigh(texts: list[str], vocabulary: tuple[str, ...], inverse: NDArray[np.float32]) -> sp.csr_array:
    """(N, words) sparse rows of unit length: (1 + log tf) · idf."""
    index = {word: column for column, word in enumerate(vocabulary)}
    found = [Counter(index[word] for word in _words(text) if word in index) for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(counts) for counts in found])]).astype(np.int64)
    columns = np.fromiter((column for counts in found for column in counts), dtype=np.int64, count=offsets[-1])
    tf = np.fromiter((count for counts in found for count in counts.values()), dtype=np.float32, count=offsets[-1])
    values = (1 + np.log(tf)) * inverse[columns]
    matrix = sp.csr_array((values, columns, offsets), shape=(len(texts), len(vocabulary)))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).reshape(-1))
    matrix.data /= np.repeat(np.where(norms > 0, norms, 1), np.diff(offsets))
    return matrix
