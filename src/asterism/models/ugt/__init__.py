"""The Unified Generative Transformer."""

from asterism.models.ugt.files import load_ugt, save_ugt
from asterism.models.ugt.model import UGT, ItemFeatures, UGTShape

__all__ = ["UGT", "ItemFeatures", "UGTShape", "load_ugt", "save_ugt"]
