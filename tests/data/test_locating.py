"""Where data are looked for, and what is said when they are nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asterism.config import DataConfig
from asterism.core.errors import DataError
from asterism.data.locating import data_moved_to, resolve_data

Write = Callable[[str, str | bytes], Path]
CSV = "user_id,item_id,timestamp\nu,a,1\n"


def test_a_folder_beside_the_configuration(write: Write, tmp_path: Path) -> None:
    write("runs/shop/interactions.csv", CSV)
    assert resolve_data(DataConfig(path="shop"), tmp_path / "runs").interactions.num_rows == 1


def test_a_folder_under_the_data_home(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("home/shop/interactions.csv", CSV)
    monkeypatch.setenv("ASTERISM_DATA", str(tmp_path / "home"))
    assert resolve_data(DataConfig(path="shop"), tmp_path / "runs").interactions.num_rows == 1


def test_the_data_home_is_data_by_default(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("data/shop/interactions.csv", CSV)
    monkeypatch.delenv("ASTERISM_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert resolve_data(DataConfig(path="shop"), tmp_path / "runs").interactions.num_rows == 1


def test_files_beside_the_configuration(write: Write, tmp_path: Path) -> None:
    write("runs/log.jsonl", '{"user": "u", "item": "a", "ts": 1}\n')
    write("runs/items.csv", "id,name\na,A\n")
    write("runs/users.csv", "user_id,age\nu,7\n")
    config = DataConfig(interactions="log.jsonl", items="items.csv", users="users.csv")
    dataset = resolve_data(config, tmp_path / "runs")
    assert dataset.items.to_pylist() == [{"item_id": "a", "title": "A"}]
    assert dataset.users is not None
    assert dataset.users.to_pylist() == [{"user_id": "u", "age": "7"}]


def test_every_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTERISM_DATA", str(tmp_path / "home"))
    with pytest.raises(DataError) as caught:
        resolve_data(DataConfig(path="shop"), tmp_path / "runs")
    for place in (tmp_path / "runs" / "shop", tmp_path / "home" / "shop"):
        assert str(place) in str(caught.value)
    assert "ASTERISM_DATA" in str(caught.value)
    with pytest.raises(DataError, match=r"'log\.csv' is not at"):
        resolve_data(DataConfig(interactions="log.csv"), tmp_path)


def test_moved_files_are_found_under_their_old_names(write: Write, tmp_path: Path) -> None:
    write("elsewhere/log.csv", CSV)
    write("elsewhere/items.csv", "item_id,title\na,A\n")
    config = DataConfig(interactions="../old/log.csv", items="items.csv", split="by_time", test_share=0.2)
    moved = data_moved_to(tmp_path / "elsewhere", config)
    assert resolve_data(moved, tmp_path / "runs").items["title"].to_pylist() == ["A"]
    assert (moved.split, moved.test_share) == ("by_time", 0.2)


def test_a_moved_folder_may_be_in_any_known_form(write: Write, tmp_path: Path) -> None:
    write("elsewhere/interactions.csv", CSV)
    for config in (DataConfig(interactions="log.csv"), DataConfig(path="shop")):
        assert resolve_data(data_moved_to(tmp_path / "elsewhere", config), tmp_path).interactions.num_rows == 1


def test_a_file_is_no_folder(write: Write, tmp_path: Path) -> None:
    write("log.csv", CSV)
    with pytest.raises(DataError, match="this is a file; name the folder it lies in"):
        resolve_data(DataConfig(path="log.csv"), tmp_path)
