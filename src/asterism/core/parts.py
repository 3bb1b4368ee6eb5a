"""The names of a bundle's parts: the contract in which training and serving meet."""

from __future__ import annotations

from typing import Final

CONFIG: Final = "config.json"  # the run configuration, whole
ITEMS: Final = "items.parquet"  # the catalogue, in the order of the item indices
USERS: Final = "users.parquet"  # users' attributes; only where the model reads them
HISTORIES: Final = "histories.parquet"  # each user's newest positive events, oldest first
ITEM_VECTORS: Final = "item_vectors.safetensors"  # `vectors` (N, D) float32
SEMANTIC_IDS: Final = "semantic_ids.safetensors"  # the table and its codebooks
EMBEDDER_ARRAYS: Final = "embedder.safetensors"  # turns a later item into a vector
EMBEDDER: Final = "embedder.json"
NEIGHBOURS: Final = "neighbours.safetensors"  # what followed each item, where the neighbour head has weight
MODEL_WEIGHTS: Final = "model.safetensors"
MODEL: Final = "model.json"
LANGUAGE_MODEL: Final = "language_model"  # a folder of the transformers library, in place of the weights
METRICS: Final = "metrics.json"  # of training and validation
