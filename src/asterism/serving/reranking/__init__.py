"""From candidates to a slate: relevance, pins, caps, diversity and exploration, over arrays alone."""

from asterism.serving.reranking.caps import CapCounter, Caps
from asterism.serving.reranking.diversity import Determinant, MarginalRelevance, Objective, Relevance
from asterism.serving.reranking.exploration import Exploration
from asterism.serving.reranking.relevance import freshness_factors, relevance_of_places
from asterism.serving.reranking.slate import Candidates, Slate, SlatePlan, arrange_slate

__all__ = [
    "Candidates",
    "CapCounter",
    "Caps",
    "Determinant",
    "Exploration",
    "MarginalRelevance",
    "Objective",
    "Relevance",
    "Slate",
    "SlatePlan",
    "arrange_slate",
    "freshness_factors",
    "relevance_of_places",
]
