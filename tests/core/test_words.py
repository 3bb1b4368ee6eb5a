"""Ids, semantic ids, hashes, clocks, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.core import progress
from asterism.core.clock import ManualClock
from asterism.core.errors import AsterismError, DataError, UnknownIdError
from asterism.core.hashing import hash_array, hash_texts, hash_value
from asterism.core.ids import IdMap
from asterism.core.progress import track
from asterism.core.semantic_id import SemanticIdTable, format_semantic_id, parse_semantic_id, path_groups


def test_ids_and_indices_are_each_others_inverse() -> None:
    ids = IdMap(["b", "a", "c"])
    assert [ids.index_of(one) for one in ids] == [0, 1, 2]
    assert ids.encode(["c", "?", "b"]).tolist() == [2, -1, 0]
    assert ids.get("?") is None
    with pytest.raises(UnknownIdError, match=r"'\?' is not one of the 3 known ids"):
        ids.index_of("?")
    with pytest.raises(ValueError, match="'a' appears twice, at 0 and 1"):
        IdMap(["a", "a"])


def test_a_semantic_id_is_written_coarse_to_fine() -> None:
    assert format_semantic_id((12, 201, 7)) == "<a_12><b_201><c_7>"
    assert parse_semantic_id("<a_12><b_201><c_7>") == (12, 201, 7)


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=8))
def test_semantic_ids_survive_their_text(codes: list[int]) -> None:
    assert parse_semantic_id(format_semantic_id(codes)) == tuple(codes)


@pytest.mark.parametrize("text", ["", "a_1", "<a_1", "<b_1>", "<a_1><c_2>", "<a_01>", "<a_1> <b_2>", "<a_-1>"])
def test_other_text_is_no_semantic_id(text: str) -> None:
    with pytest.raises(ValueError, match="is not a semantic id"):
        parse_semantic_id(text)


def test_a_table_finds_items_by_path() -> None:
    table = SemanticIdTable(np.array([[0, 1], [1, 0]]), (2, 2))
    assert table.item_of((1, 0)) == 1
    assert table.item_of((1, 1)) is None
    assert table.path_of(0) == (0, 1)
    assert (len(table), table.levels) == (2, 2)


def test_a_table_refuses_shared_paths_and_strange_codes() -> None:
    with pytest.raises(ValueError, match="items 0 and 2 share the semantic id <a_0><b_1>"):
        SemanticIdTable(np.array([[0, 1], [1, 0], [0, 1]]), (2, 2))
    with pytest.raises(ValueError, match="outside its codebook"):
        SemanticIdTable(np.array([[0, 2]]), (2, 2))
    with pytest.raises(ValueError, match="do not fit 3 levels"):
        SemanticIdTable(np.array([[0, 1]]), (2, 2, 2))


def test_hashes_tell_values_apart() -> None:
    assert hash_texts(["ab", "c"]) != hash_texts(["a", "bc"])
    assert hash_array(np.zeros(4)) != hash_array(np.zeros((2, 2)))
    assert hash_array(np.zeros(4, dtype=np.float32)) != hash_array(np.zeros(4, dtype=np.int32))
    assert hash_value({"a": 1, "b": 2}) == hash_value({"b": 2, "a": 1})


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(10.0)
    clock.advance(2.5)
    assert clock.now() == 12.5


def test_a_data_error_says_where() -> None:
    error = DataError("is not a number", file="a.csv", line=3, field="value")
    assert str(error) == "a.csv:3, field `value`: is not a number"
    assert str(DataError("no rows")) == "no rows"


def all_errors(root: type[AsterismError] = AsterismError) -> list[type[AsterismError]]:
    return [root, *(error for one in root.__subclasses__() for error in all_errors(one))]


def test_every_error_has_a_code_of_its_own_family() -> None:
    named = [one for one in all_errors() if one.__module__ == "asterism.core.errors"]
    codes = [one.code for one in named]
    assert len(set(codes)) == len(codes) > 10
    assert all(10000 <= code < 40000 for code in codes)


def test_tracking_yields_everything_and_is_silent_when_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(5), "counting")) == list(range(5))
    assert capsys.readouterr().err == ""


def test_equal_paths_share_a_number_in_the_order_of_the_paths() -> None:
    rng = np.random.default_rng(0)
    for levels, codes in ((1, 3), (3, 4), (9, 256)):  # 256^9 paths would not fit into 64 bits
        paths = rng.integers(0, codes, size=(40, levels)).astype(np.int32)[rng.integers(0, 40, size=200)]
        expected = np.unique(paths, axis=0, return_inverse=True)[1].reshape(-1)
        assert path_groups(paths).tolist() == expected.tolist()
    assert path_groups(np.empty((0, 4), dtype=np.int32)).shape == (0,)
    assert path_groups(np.empty((3, 0), dtype=np.int32)).tolist() == [0, 0, 0]


def test_a_log_gets_a_line_with_the_status_of_the_moment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
    seen: list[int] = []
    for one in track("ab", "reading", status=lambda: f"{len(seen)} seen"):
        seen.append(ord(one))
    assert capsys.readouterr().err.splitlines() == ["reading: 1/2 1 seen", "reading: 2/2 2 seen"]
    assert list(track("a", "reading")) == ["a"]
    assert capsys.readouterr().err == "reading: 1/1\n"
