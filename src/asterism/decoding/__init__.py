"""Constrained generation over semantic ids: trie, beam search, re-scoring, and their slow twin."""

from asterism.decoding.beam import Generated, beam_search
from asterism.decoding.diverse import Groups, diverse_beam_search
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.exhaustive import all_log_probs, recommend_exhaustively
from asterism.decoding.generator import Generator
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.recommendations import Mode, Recommendations
from asterism.decoding.sampling import Sampled, sample_items
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie import Trie

__all__ = [
    "Exclusions",
    "Generated",
    "Generator",
    "Groups",
    "ItemFilter",
    "Mode",
    "Recommendations",
    "Sampled",
    "Trie",
    "TrieSnapshot",
    "all_log_probs",
    "beam_search",
    "diverse_beam_search",
    "recommend_exhaustively",
    "sample_items",
]
