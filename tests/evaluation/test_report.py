"""The terminal table, the JSON file and the self-contained page."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from asterism.config import EvaluationConfig
from asterism.core.errors import MissingDependencyError, StorageError
from asterism.evaluation.baselines import LinearBaseline, default_baselines, markov, popularity
from asterism.evaluation.html import render_html
from asterism.evaluation.plots import exposure_plot, metric_bars, recall_curves, slice_bars
from asterism.evaluation.protocol import evaluate
from asterism.evaluation.report import print_table, write_outputs
from asterism.evaluation.result import EvaluationResult
from asterism.evaluation.significance import Comparison
from asterism.evaluation.wording import comparison_phrase, format_value, headline_sentence, metric_label
from worlds import checkerboard, everyone_ends_alike, markov_chain

CONFIG = EvaluationConfig(bootstrap_samples=100)


@pytest.fixture(scope="module")
def result() -> EvaluationResult:
    split = checkerboard()
    popular, chain, neighbours = default_baselines(split)
    system = dataclasses.replace(neighbours, name="<model> & co")
    return evaluate(system, split, "test", CONFIG, np.eye(20), dataset="checkerboard", baselines=[popular, chain])


@pytest.fixture(scope="module")
def page(result: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "new" / "folder" / "report.html"
    write_outputs(result, html_path=path)
    return path.read_text(encoding="utf-8")


def printed(result: EvaluationResult) -> str:
    stream = io.StringIO()
    print_table(result, Console(file=stream, width=160))
    return stream.getvalue()


def row_of(text: str, label: str) -> list[str]:
    line = next(line for line in text.splitlines() if f" {label} " in line)
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_table_has_model_and_baselines_side_by_side(result: EvaluationResult) -> None:
    text = printed(result)
    for name in ("<model> & co", "popularity", "markov", "history excluded", "checkerboard, test, 20 users"):
        assert name in text
    measured = [system.modes["metrics"] for system in (result.system, *result.baselines.values())]
    assert row_of(text, "NDCG@10")[1:] == [format_value(one.metrics["ndcg@10"]) for one in measured]
    assert row_of(text, "Coverage @10")[1:] == [format_value(one.beyond_accuracy["coverage@10"]) for one in measured]


def test_several_cases_of_a_user_are_not_several_users(result: EvaluationResult) -> None:
    split = checkerboard()
    first = split.test.take(np.zeros(4, dtype=np.int64))
    split = dataclasses.replace(split, test=first)
    found = evaluate(popularity(split.train, 20), split, "test", CONFIG, dataset="board")
    assert (found.users, found.cases) == (1, 4)
    assert (found.to_dict()["users"], found.to_dict()["cases"]) == (1, 4)
    assert "board, test, 4 cases of 1 user: " in printed(found)
    assert "test: 4 cases of 1 user," in render_html(found)


def test_the_ratio_to_popularity_is_said(result: EvaluationResult) -> None:
    ours = result.system.modes["metrics_history_excluded"].metrics["ndcg@10"]
    theirs = result.baselines["popularity"].modes["metrics_history_excluded"].metrics["ndcg@10"]
    sentence = headline_sentence(result, "metrics_history_excluded")
    assert f"<model> & co reaches {ours:.4f}, {ours / theirs:.2f} times the {theirs:.4f} of popularity" in sentence
    assert sentence in printed(result).splitlines()


def test_no_ratio_to_nothing() -> None:
    split = everyone_ends_alike()
    popular = popularity(split.train, 14)
    chain = markov(split.train, 14)
    result = evaluate(chain, split, "test", CONFIG, dataset="alike", baselines=[popular])
    assert "popularity 0, so no ratio" in headline_sentence(result, "metrics_history_excluded")
    alone = evaluate(chain, split, "test", CONFIG, dataset="alike")
    assert "popularity was not measured" in headline_sentence(alone, "metrics")


def test_the_smallest_p_is_a_bound() -> None:
    assert comparison_phrase(Comparison(0.1, 0.05, 0.15, 1 / 1001), 1000) == (
        "difference +0.1000, 95% interval +0.0500 to +0.1500, p ≤ 0.001"
    )
    assert comparison_phrase(Comparison(-0.1, -0.25, 0.05, 0.25), 1000).endswith("-0.2500 to +0.0500, p = 0.25")


def test_labels() -> None:
    assert metric_label("ndcg@10") == "NDCG@10"
    assert metric_label("recall@5") == "Recall/HR@5"
    assert format_value(None) == "\N{EN DASH}"


def test_the_json_file_is_the_result(result: EvaluationResult, tmp_path: Path) -> None:
    write_outputs(result, json_path=tmp_path / "deep" / "metrics.json")
    assert json.loads((tmp_path / "deep" / "metrics.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    assert [path.name for path in tmp_path.rglob("*.*")] == ["metrics.json"]


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http://" not in without_namespaces
    assert "https://" not in without_namespaces
    for loader in ("<script", "<link", "<img", "<iframe", "@import", "url(http", " src="):
        assert loader not in page


def test_the_page_shows_every_figure_and_every_definition(page: str, result: EvaluationResult) -> None:
    for system in (result.system, *result.baselines.values()):
        for mode in system.modes.values():
            for name, value in mode.metrics.items():
                assert format_value(value) in page
                assert f"{mode.intervals[name].low:.4f} to {mode.intervals[name].high:.4f}" in page
    for word in ("Recall@k", "NDCG@k", "MRR@k", "Coverage", "Gini", "Novelty", "Diversity", "Long-tail", "Slices"):
        assert word in page
    assert page.count("<svg") == 4


def test_names_are_escaped(page: str) -> None:
    assert "&lt;model&gt; &amp; co" in page
    assert "<model>" not in page


def test_figures_are_well_formed_and_take_their_colours_from_the_page(result: EvaluationResult) -> None:
    for draw in (metric_bars, recall_curves, slice_bars, exposure_plot):
        svg = draw(result)
        assert ElementTree.fromstring(svg).get("role") == "img"
        assert "var(--series-0)" in svg
        assert "var(--series-2)" in svg
        assert not re.search(r"#0[0-9a-f]{5}\b", svg)
        assert "<metadata" not in svg


def test_figures_do_not_change_from_run_to_run(result: EvaluationResult) -> None:
    assert metric_bars(result) == metric_bars(result)


def test_more_systems_than_colours_can_be_drawn() -> None:
    split = markov_chain(users=12, items=12, length=5)
    one = popularity(split.train, 12)
    many: list[LinearBaseline] = [dataclasses.replace(one, name=f"popularity {place}") for place in range(7)]
    result = evaluate(one, split, "test", CONFIG, dataset="chain", baselines=many)
    assert "var(--series-5)" in metric_bars(result)
    assert "var(--series-6)" not in metric_bars(result)


def test_one_cutoff_and_no_baseline_make_a_page(tmp_path: Path) -> None:
    split = markov_chain(users=3, items=12, length=5)
    config = EvaluationConfig(cutoffs=(1,), bootstrap_samples=1)
    result = evaluate(popularity(split.train, 12), split, "test", config, dataset="tiny")
    write_outputs(result, tmp_path / "a.json", tmp_path / "a.html")
    assert "popularity was not measured" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_missing_extra_is_named(result: EvaluationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=r"jinja2; install it with `pip install asterism\[report\]`"):
        write_outputs(result, html_path=tmp_path / "report.html")


def test_a_place_that_cannot_be_written_is_named(result: EvaluationResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/metrics\.json cannot be written"):
        write_outputs(result, json_path=tmp_path / "file" / "metrics.json")
