"""What a gateway knows of the items of the bundle that it serves, beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from asterism.config.stores import StoresConfig
from asterism.core.bundle import Bundle
from asterism.serving.bundle_tables import CatalogueTable, read_neighbours, read_vectors
from asterism.serving.item_facts import ItemFacts
from asterism.serving.similar import SimilarItems
from asterism.stores.vectors import VectorIndex


class ServedTables(NamedTuple):
    """Facts, vectors and neighbours of one catalogue."""

    facts: ItemFacts
    vectors: VectorIndex
    similar: SimilarItems
    categories: Mapping[str, tuple[str, ...]]  # of each item

    @classmethod
    def of(cls, bundle: Bundle, table: CatalogueTable, stores: StoresConfig) -> ServedTables:
        """Those of a bundle; raises `BundleError`."""
        ids = table.ids
        vectors = read_vectors(bundle, ids, stores.vectors, stores.timeout_seconds)
        similar = SimilarItems(ids, vectors, read_neighbours(bundle, len(table.items)))
        categories = {item.item_id: item.categories for item in table.items}
        return cls(ItemFacts(table.items), vectors, similar, categories)
