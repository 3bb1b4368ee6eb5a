"""A folder of graphs: complete, described, checked, and never left where it is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from asterism.core.bundle import Bundle
from asterism.core.errors import ModelError, RequestError, StorageError
from asterism.core.records import ACTIONS
from asterism.decoding.exports import graphs, onnx_graph
from asterism.decoding.exports.agreement import Agreement, agreements, session
from asterism.decoding.exports.graphs import ExportOptions
from asterism.decoding.exports.onnx_files import export_onnx
from asterism.decoding.exports.samples import sample_histories
from asterism.decoding.graph.columns import Feeds, columns_of
from asterism.decoding.graph.values import Value
from asterism.decoding.loading import TrainedRecommender
from decoding.graph.running import run
from decoding.graph.small_bundle import ITEM_IDS, ITEMS, SIZES
from decoding.table_policy import TablePolicy

GRAPHS = ["encoder", "codes_0", "codes_1", "codes_2", "codes_3", "items", "catalogue", "recommend"]


@pytest.fixture(scope="module")
def exported(trained: TrainedRecommender, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Agreement]]:
    folder = tmp_path_factory.mktemp("exports") / "onnx"
    return folder, export_onnx(trained, folder, ExportOptions(k=7))


def test_every_graph_is_there_and_agrees(exported: tuple[Path, list[Agreement]]) -> None:
    folder, found = exported
    assert sorted(file.name for file in folder.glob("*.onnx")) == sorted(f"{name}.onnx" for name in GRAPHS)
    assert [one.graph for one in found] == GRAPHS
    assert max(one.relative_difference for one in found) < 1e-4
    assert found[-1].overlap == 1.0
    assert json.loads((folder / "item_ids.json").read_text(encoding="utf-8")) == ITEM_IDS


def test_the_metadata_tells_what_a_client_must_know(exported: tuple[Path, list[Agreement]], bundle: Bundle) -> None:
    model = onnx.load(exported[0] / "recommend.onnx")
    known = {one.key: one.value for one in model.metadata_props}
    assert known["bundle"] == bundle.version
    assert known["catalogue"] == bundle.fact("items_hash")
    assert json.loads(known["codebook_sizes"]) == list(SIZES)
    assert json.loads(known["actions"])[3] == ACTIONS[3].value
    assert (known["items"], known["max_events"], known["max_history"]) == (str(ITEMS), "5", "20")
    assert list(json.loads(known["inputs"])) == [one.name for one in model.graph.input]
    assert list(json.loads(known["outputs"])) == ["recommended", "scores"]
    assert json.loads(known["options"]) == {"k": 7, "mode": "rescored", "beam": None, "exclude_history": True}
    assert json.loads(known["decoding"])["beam"] == 20
    assert [one.version for one in model.opset_import] == [onnx_graph.OPSET]


def test_two_exports_are_the_same_bytes(
    exported: tuple[Path, list[Agreement]], trained: TrainedRecommender, tmp_path: Path
) -> None:
    export_onnx(trained, tmp_path / "again", ExportOptions(k=7))
    for name in GRAPHS:
        first, second = ((folder / f"{name}.onnx").read_bytes() for folder in (exported[0], tmp_path / "again"))
        assert first == second, name


def test_no_file_names_a_place_on_this_machine(exported: tuple[Path, list[Agreement]]) -> None:
    here = str(Path(__file__).parents[3]).encode()
    for file in exported[0].iterdir():
        assert here not in file.read_bytes(), file.name


@pytest.mark.parametrize("exclude", [True, False])
def test_the_history_is_left_out_or_kept(exclude: bool, trained: TrainedRecommender) -> None:
    """Of the older events that only windows tell, too."""
    model = graphs.graphs_of(trained, ExportOptions(k=ITEMS, mode="rank", exclude_history=exclude))["recommend"]()
    rows = sample_histories(trained, 10)
    feeds = columns_of(rows, trained.config.model) | {"excluded": np.full((len(rows), 1), 3)}
    items, _ = run(model, feeds)
    for row in range(len(rows)):
        seen = set(rows.items[rows.row(row)].tolist())
        given = {item for item in items[row].tolist() if item >= 0}
        assert given == set(range(ITEMS)) - {3} - (seen if exclude else set())
    assert max(rows.lengths) > trained.policy.max_events


def test_a_sample_is_of_the_bundles_users_and_one_without_events(trained: TrainedRecommender) -> None:
    rows = sample_histories(trained, 100)
    assert rows.lengths.tolist() == [0, 2, 7, 12, 17]
    assert sample_histories(trained, 3).lengths.tolist() == [0, 2, 17]
    assert rows.asked is not None
    assert rows.asked.timestamps.tolist()[0] == -1
    assert rows.asked.timestamps[4] == rows.timestamps[-1] + 3600
    assert rows.attributes is not None
    assert rows.attributes[0].tolist() == [0]
    assert rows.attributes[1].tolist() == rows.attributes[2].tolist() != rows.attributes[3].tolist()


@pytest.mark.parametrize("wrong", ["encoder", "codes_1", "items", "recommend"])
def test_a_graph_that_disagrees_is_not_left(
    wrong: str, trained: TrainedRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the layer that only this graph, or it and those after it, is made of answers something else."""
    layer = {"encoder": "encode", "codes_1": "find", "items": "item_scores", "recommend": "recommend_all_but"}[wrong]
    right = getattr(graphs, layer)

    def off(*arguments: object) -> object:
        found = right(*arguments)
        if isinstance(found, Value):
            return found + 0.01
        return type(found)(found[0], found[1] + 0.01) if wrong == "recommend" else (found[0] * 0, found[1])

    target = tmp_path / "out"
    export_onnx(trained, target, ExportOptions())
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    monkeypatch.setattr(graphs, layer, off)
    with pytest.raises(ModelError, match=f"the graph '{wrong}' differs from the model by .*nothing was left"):
        export_onnx(trained, target, ExportOptions())
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_other_items_are_told_as_a_share(trained: TrainedRecommender, tmp_path: Path) -> None:
    """The graph of a beam of one held against the bundle's beam."""
    onnx.save(graphs.graphs_of(trained, ExportOptions(k=5, mode="generate", beam=1))["recommend"](), tmp_path / "x")
    options = ExportOptions(k=5, mode="generate")
    (found,) = agreements({"recommend": tmp_path / "x"}, trained, options, sample_histories(trained, 9))
    assert found.overlap is not None
    assert 0.0 < found.overlap < 0.99
    with pytest.raises(ModelError, match=r"recommends \d+\.\d% of the model's items, less than 99%"):
        Agreement("recommend", 0.0, 0.0, found.overlap).check()


def test_not_a_number_is_a_disagreement() -> None:
    with pytest.raises(ModelError, match="differs"):
        Agreement("encoder", float("nan"), float("nan")).check()


@pytest.mark.parametrize("name", ["encoder", "recommend"])
def test_a_number_that_is_none_is_seen_in_every_part(
    name: str, exported: tuple[Path, list[Agreement]], trained: TrainedRecommender
) -> None:
    class BrokenLater:
        def __init__(self, file: Path) -> None:
            self._right, self._calls = session(file), 0

        def run(self, outputs: list[str], feeds: Feeds) -> list[NDArray[Any]]:
            self._calls += 1
            *others, numbers = self._right.run(outputs, feeds)
            return [*others, numbers if self._calls == 1 else numbers * np.float32(np.nan)]

    files = {name: exported[0] / f"{name}.onnx"}
    rows = sample_histories(trained, 5)
    (found,) = agreements(files, trained, ExportOptions(k=7), rows, opened=BrokenLater, rows_at_once=2)
    with pytest.raises(ModelError, match=f"the graph '{name}' differs from the model by nan"):
        found.check()


def test_what_is_not_an_export_is_not_replaced(trained: TrainedRecommender, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(StorageError, match="is no earlier export; name another place"):
        export_onnx(trained, tmp_path, ExportOptions())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_does_not_fit_into_a_file_is_told(
    trained: TrainedRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "LARGEST_BYTES", 1_000)
    with pytest.raises(ModelError, match=r"the graph 'encoder' would hold .* GB of constants"):
        export_onnx(trained, tmp_path / "out", ExportOptions())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_ugt_is_told(trained: TrainedRecommender, tmp_path: Path) -> None:
    other: Any = TablePolicy(SIZES, ITEMS)
    with pytest.raises(ModelError, match="holds a TablePolicy, and only a UGT can be written as graphs; serve it with"):
        export_onnx(replace(trained, policy=other), tmp_path / "out", ExportOptions())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("options", "said"), [({"k": 0}, "ask for at least 1"), ({"beam": 0}, "make it at least 1")])
def test_senseless_options(options: dict[str, int], said: str, trained: TrainedRecommender, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=re.escape(said)):
        export_onnx(trained, tmp_path / "out", ExportOptions(**options))  # type: ignore[arg-type]
