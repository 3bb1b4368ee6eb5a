"""Semantic ids: several methods behind one interface, unique ids, new items, files and a quality report."""

from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.earlier import load_earlier_ids, read_catalogue
from asterism.semantic_ids.exchange import (
    ItemPaths,
    adopt,
    parse_paths,
    paths_of,
    read_index,
    read_vectors,
    write_index,
)
from asterism.semantic_ids.files import (
    load_semantic_ids,
    save_readable_ids,
    save_semantic_ids,
)
from asterism.semantic_ids.methods import METHODS, fit
from asterism.semantic_ids.page import report_html, report_json
from asterism.semantic_ids.quantizer import Quantizer
from asterism.semantic_ids.register import SemanticIdRegister
from asterism.semantic_ids.report import SemanticIdReport, render_report, report
from asterism.semantic_ids.stability import UNKNOWN, CodeChanges, code_changes, earlier_ids
from asterism.semantic_ids.table import build_semantic_ids, extend, unique_table

__all__ = [
    "METHODS",
    "UNKNOWN",
    "CodeChanges",
    "Codebooks",
    "ItemPaths",
    "Quantizer",
    "SemanticIdRegister",
    "SemanticIdReport",
    "adopt",
    "build_semantic_ids",
    "code_changes",
    "earlier_ids",
    "extend",
    "fit",
    "load_earlier_ids",
    "load_semantic_ids",
    "parse_paths",
    "paths_of",
    "read_catalogue",
    "read_index",
    "read_vectors",
    "render_report",
    "report",
    "report_html",
    "report_json",
    "save_readable_ids",
    "save_semantic_ids",
    "unique_table",
    "write_index",
]
