"""UGT for requests: the same answers from packed weights, in the precision that is asked for."""

from asterism.models.ugt.inference.encoder import InferenceEncoder
from asterism.models.ugt.inference.linear import Precision
from asterism.models.ugt.inference.model import InferenceUGT

__all__ = ["InferenceEncoder", "InferenceUGT", "Precision"]
