"""MiniOneRec's folders: which file is which part, and what a folder of two data sets is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from asterism.core.errors import DataError
from asterism.data.importing import Imported

Write = Callable[[str, str], Path]
Load = Callable[..., Imported]

HEAD = "user_id,history_item_id,item_id\n"
ITEMS = '{"0":{"title":"a"},"1":{"title":"b"},"2":{"title":"c"},"3":{"title":"d"}}'
SAMPLES = {"train": "u,[0],1\n", "valid": 'u,"[0,1]",2\n', "test": 'u,"[0,1,2]",3\n'}


@pytest.mark.parametrize(
    "names",
    [
        ("ml-latest.train", "ml-latest.valid", "ml-latest.test"),
        ("Train_contest", "validation-contest", "contest_test"),
        ("ml-test_train", "ml-test_val", "ml-test_test"),
        ("trainer.training_5", "trainer.valid_5", "trainer.testing_5"),
    ],
)
def test_a_part_is_a_whole_word_of_a_name(write: Write, load: Load, names: tuple[str, ...]) -> None:
    write("x.item.json", ITEMS)
    for name, samples in zip(names, SAMPLES.values(), strict=True):
        write(f"{name}.csv", HEAD + samples)
    rows = load().dataset.interactions.select(["item_id", "split"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("0", "train"), ("1", "train"), ("2", "validation"), ("3", "test"),
    ]  # fmt: skip


def test_two_data_sets_in_a_folder_are_refused(write: Write, load: Load) -> None:
    for name in ("Industrial", "Office"):
        for part, samples in SAMPLES.items():
            write(f"{part}/{name}.csv", HEAD + samples)
        write(f"index/{name}.item.json", ITEMS)
    with pytest.raises(DataError, match=re.escape("(index/Industrial.item.json, index/Office.item.json)")):
        load()


def test_half_a_surrogate_pair_names_its_item(write: Write, load: Load) -> None:
    for part, samples in SAMPLES.items():
        write(f"{part}/x.csv", HEAD + samples)
    write("x.item.json", '{"0":{"title":"a"},"1":{"title":"bad \\ud83d"}}')
    with pytest.raises(DataError, match="item '1' holds half of a surrogate pair"):
        load()


@pytest.mark.parametrize("history", ["\"['\\ud83d']\"", '"{[]: 1}"'])
def test_a_history_that_is_no_list_of_ids_is_a_bad_row(write: Write, load: Load, history: str) -> None:
    for part, samples in SAMPLES.items():
        write(f"{part}/x.csv", HEAD + samples)
    write("train/x.csv", HEAD + SAMPLES["train"] + f"v,{history},1\n")
    write("x.item.json", ITEMS)
    with pytest.raises(DataError, match="`history_item_id` is not a list") as caught:
        load()
    assert caught.value.line == 3
