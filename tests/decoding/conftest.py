from __future__ import annotations

import pytest

from asterism.core.bundle import Bundle
from asterism.decoding.loading import TrainedRecommender, load_recommender
from decoding.graph.small_bundle import write_bundle
from models.small_ugt import EVERYTHING


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small bundle whose model has every switch on."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "everything", **EVERYTHING, recency_pooling=True)


@pytest.fixture(scope="session")
def trained(bundle: Bundle) -> TrainedRecommender:
    return load_recommender(bundle)
