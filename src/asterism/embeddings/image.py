"""The image part: files and `data:` URIs of the `image` column, encoded once and cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from asterism.core.hashing import hash_texts
from asterism.core.records import IMAGE
from asterism.embeddings.cache import cached_array
from asterism.embeddings.image_encoder import ImageEncoder
from asterism.embeddings.image_files import Refusal, find_images, warn_of_refused
from asterism.embeddings.part import Part, absent_part


def image_part(items: pa.Table, encoder: ImageEncoder, folder: Path, cache: Path | None) -> Part:
    """(N, d) vectors of the items' images; relative paths start at `folder`, no `cache` keeps nothing.

    An item whose image cannot be read is not present, and one `ImageWarning` tells how many there are and why.
    Raises `ModelError` and `MissingDependencyError` as the encoder does.
    """
    if IMAGE not in items.column_names:
        return absent_part(items.num_rows, 1)
    found = find_images(items[IMAGE].to_pylist(), folder)
    distinct = sorted(found.images)
    stored = [found.images[digest] for digest in distinct]
    if not stored:
        warn_of_refused(found.refused, items.num_rows)
        return absent_part(items.num_rows, 1)
    source = {"images": hash_texts(distinct), "model": encoder.identity(), "what": "image vectors, bf16"}
    encoded = cached_array(cache, source, lambda: encoder.encode(stored)) if cache else encoder.encode(stored)
    row_of = {digest: row for row, digest in enumerate(distinct)}
    vectors = np.zeros((items.num_rows, encoded.shape[1]), dtype=np.float32)
    for item, digest in enumerate(found.digests):
        if digest is None:
            continue
        vectors[item] = encoded[row_of[digest]]
        if not vectors[item].any():
            found.refuse(Refusal.UNREADABLE, found.images[digest].name)
    warn_of_refused(found.refused, items.num_rows)
    return Part(vectors, np.asarray(vectors.any(axis=1)))
