"""Item vectors: text, images, co-occurrence, structured fields and precomputed columns, fused into one width."""

from asterism.embeddings.cache import CacheWarning, default_cache_folder
from asterism.embeddings.embedder import ItemEmbedder
from asterism.embeddings.fusion import FusionModel, fit_fusion
from asterism.embeddings.image_files import ImageWarning
from asterism.embeddings.part import Part
from asterism.embeddings.text import TextFallbackWarning

__all__ = [
    "CacheWarning",
    "FusionModel",
    "ImageWarning",
    "ItemEmbedder",
    "Part",
    "TextFallbackWarning",
    "default_cache_folder",
    "fit_fusion",
]
