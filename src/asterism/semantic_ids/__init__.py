"""Semantic ids: residual k-means over item vectors, unique ids, new items, files and a quality report."""

from asterism.semantic_ids.files import (
    SEMANTIC_IDS_FILE,
    load_semantic_ids,
    save_readable_ids,
    save_semantic_ids,
)
from asterism.semantic_ids.report import SemanticIdReport, render_report, report
from asterism.semantic_ids.residual import Codebooks, assign, fit, reconstruct
from asterism.semantic_ids.table import assign_new, build_semantic_ids, extend

__all__ = [
    "SEMANTIC_IDS_FILE",
    "Codebooks",
    "SemanticIdReport",
    "assign",
    "assign_new",
    "build_semantic_ids",
    "extend",
    "fit",
    "load_semantic_ids",
    "reconstruct",
    "render_report",
    "report",
    "save_readable_ids",
    "save_semantic_ids",
]
