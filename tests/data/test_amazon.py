"""Amazon's files are told from a user's own by their fields, and none in a folder is passed over in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asterism.core.errors import DataError
from asterism.data.importing import Imported, import_dataset
from asterism.data.readers.detection import read_files, read_folder
from asterism.data.rejects import Rejects
from asterism.data.timestamps import TimestampUnit

Write = Callable[[str, str], Path]

REVIEW = {"user_id": "u", "parent_asin": "a", "timestamp": 1600000000000, "rating": 5.0, "verified_purchase": True}
OLD_REVIEW = '{"reviewerID":"%s","asin":"a","unixReviewTime":1600000000,"overall":5}\n'


def named(
    interactions: Path, items: Path | None = None, users: Path | None = None, unit: TimestampUnit | None = None
) -> Imported:
    return import_dataset(read_files(interactions, items, users), Rejects("stop"), unit)


def test_a_log_of_ones_own_keeps_its_columns(write: Write) -> None:
    own = {"user_id": "u", "parent_asin": "a", "timestamp": 1600000000000, "action": "purchase", "device": "ios",
           "session_id": "s1", "split": "train", "rating": 4}  # fmt: skip
    imported = named(write("log.jsonl", json.dumps(own)), unit="ms")
    assert imported.summary.format == "files"
    row = imported.dataset.interactions.to_pylist()[0]
    assert (row["item_id"], row["action"], row["device"], row["value"]) == ("a", "purchase", "ios", 4.0)
    seconds = {"user_id": "u", "parent_asin": "a", "timestamp": 1600000000}
    assert named(write("s.jsonl", json.dumps(seconds))).dataset.interactions["timestamp"].to_pylist() == [1600000000]


def test_a_unit_that_was_asked_for_wins(write: Write) -> None:
    review = write("r.jsonl", json.dumps({**REVIEW, "timestamp": 1600000000}))
    for unit in ("s", "auto"):
        imported = named(review, unit=unit)
        assert imported.summary.format == "amazon"
        assert imported.dataset.interactions["timestamp"].to_pylist() == [1600000000]
    with pytest.raises(DataError, match="too small to be milliseconds"):
        named(review)


def test_plain_items_and_users_go_with_reviews(write: Write) -> None:
    reviews = write("r.jsonl", json.dumps(REVIEW))
    items, users = write("items.csv", "item_id,title\na,A\n"), write("users.csv", "user_id,city\nu,Rome\n")
    dataset = named(reviews, items, users).dataset
    assert dataset.items["title"].to_pylist() == ["A"]
    assert dataset.users is not None
    assert dataset.users.to_pylist() == [{"user_id": "u", "city": "Rome"}]
    own = write("own.jsonl", '{"item_id":"a","title":"B","colour":"red"}\n')
    assert named(reviews, own).dataset.items["colour"].to_pylist() == ["red"]


def test_a_broken_first_line_hides_no_file(write: Write, load: Callable[..., Imported], tmp_path: Path) -> None:
    write("reviews_A.json", OLD_REVIEW % "u")
    broken = write("reviews_B.json", '{"reviewerID":"v","asin":"b","unixReviewTi\n' + OLD_REVIEW % "v")
    write("meta.json", '\n{"asin":"a","title":"A"}\n')
    with pytest.raises(DataError, match="not an object that can be read") as caught:
        load()
    assert (caught.value.file, caught.value.line) == (str(broken), 1)
    imported = import_dataset(read_folder(tmp_path), Rejects("reject", tmp_path / "rejects.jsonl"))
    assert imported.dataset.interactions["user_id"].to_pylist() == ["u", "v"]
    assert imported.dataset.items["title"].to_pylist() == ["A"]


def test_a_file_that_is_neither_reviews_nor_metadata_is_named(write: Write, load: Callable[..., Imported]) -> None:
    write("reviews.json", OLD_REVIEW % "u")
    clicks = {"user_id": "u", "parent_asin": "a", "timestamp": 1, "action": "click"}
    others = [write("clicks.jsonl", json.dumps(clicks)), write("notes.json", '{"by": "me"}\n')]
    reason = "neither reviews nor metadata were recognised in it, so it was not read"
    assert load().summary.notes == [f"{other}: {reason}" for other in others]
