"""Causal language models over semantic ids; the transformers library is imported when one is first made or opened."""

from asterism.models.llm.files import load_llm, save_llm
from asterism.models.llm.model import LLM, LanguageModel

__all__ = ["LLM", "LanguageModel", "load_llm", "save_llm"]
