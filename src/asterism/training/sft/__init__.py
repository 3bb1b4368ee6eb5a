"""Supervised fine-tuning of a language model on a mixture of examples, packed into rows."""

from asterism.training.sft.course import supervised_course

__all__ = ["supervised_course"]
