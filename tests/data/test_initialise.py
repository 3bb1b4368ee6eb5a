"""A written configuration parses, is commented, finds its files, and fits the data's size."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import BaseModel

from asterism.config import RunConfig, load_run_config
from asterism.core.errors import DataError, StorageError
from asterism.data.dataset import Dataset
from asterism.data.importing import ImportSummary
from asterism.data.initial_config import COMMENTS
from asterism.data.initialise import choose, initialise, write_config
from asterism.data.locating import resolve_data
from asterism.data.splits import split_dataset

Write = Callable[[str, str | bytes], Path]

RATINGS = "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},4,{10 * i + u}\n" for u in range(4) for i in range(5))
MOVIES = "movieId,title,genres\n" + "".join(f"{i},Movie {i},Action|Drama\n" for i in range(6))


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, one in model.model_fields.items():
        if isinstance(one.annotation, type) and issubclass(one.annotation, BaseModel):
            yield from keys(one.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_key_has_a_comment() -> None:
    assert set(COMMENTS) == set(keys(RunConfig))


def test_a_written_configuration_loads_its_data(write: Write, tmp_path: Path) -> None:
    ratings, movies = write("data/ratings.csv", RATINGS), write("data/movies.csv", MOVIES)
    output = tmp_path / "conf" / 'my "run".toml'
    write_config(initialise(ratings, movies, None, output), output)
    config = load_run_config(output)
    assert config.name == 'my "run"'
    assert (config.data.interactions, config.data.items) == ("../data/ratings.csv", "../data/movies.csv")
    dataset = resolve_data(config.data, output.parent)
    split = split_dataset(dataset, config.data)
    assert (len(split.users), len(split.items), len(split.test)) == (4, 6, 4)
    assert dataset.interactions["action"].unique().to_pylist() == ["rating"]


def test_every_line_that_sets_something_is_commented(write: Write, tmp_path: Path) -> None:
    text = initialise(write("a.csv", RATINGS), write("b.csv", MOVIES), None, tmp_path / "x.toml").text
    settings = [line for line in text.splitlines() if " = " in line]
    assert len(settings) == len(COMMENTS)
    assert all("  # " in line for line in settings)
    assert '# interactions: the column "movieId" is read as `item_id`' in text
    unset = {"data.path", "data.users", "embeddings.image_model", "semantic_ids.like"}
    unset |= {"training.max_minutes", "evaluation.validation_cases", "llm.base", "llm.index", "alignment.mode"}
    assert set(_written(tomllib.loads(text))) == set(COMMENTS) - unset


def _written(values: dict[str, object], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and name != "precomputed":
            yield from _written(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def make(users: int, items: int, events: int, **columns: object) -> Dataset:
    rows = range(events)
    interactions = {
        "user_id": [f"u{row % users}" for row in rows],
        "item_id": ["i0"] * events,
        "timestamp": list(rows),
        "action": ["click"] * events,
    }
    ids = [f"i{item}" for item in range(items)]
    return Dataset(pa.table({**interactions, **columns}), pa.table({"item_id": ids, "title": ids}))


@pytest.mark.parametrize(("items", "codes"), [(4, 8), (20, 16), (200, 32), (1_000, 64), (3_000, 128), (10_000, 256)])
def test_codes_follow_the_catalogue(items: int, codes: int) -> None:
    values = choose(make(5, items, 20), ImportSummary("x")).values
    assert values["semantic_ids.codes"] == codes
    assert values["training.negatives"] == (0 if items <= 2_048 else 2_048)


def test_the_split_follows_the_data() -> None:
    parts = ["train", "train", "validation", "test"]
    assert choose(make(1, 2, 4, split=parts), ImportSummary("x")).split == "by_column"
    assert choose(make(1, 2, 4, split=["train"] * 4), ImportSummary("x")).split == "leave_one_out"
    assert choose(make(4, 2, 8), ImportSummary("x")).split == "by_time"
    three_each = choose(make(40, 2, 120), ImportSummary("x"))
    assert three_each.split == "by_time", "leave-one-out would leave one training event to each user"


def test_data_that_no_split_can_learn_from_are_told_apart() -> None:
    assert not choose(make(30, 2, 30), ImportSummary("x")).trainable
    assert not choose(make(1, 2, 1), ImportSummary("x")).trainable
    assert choose(make(1, 2, 4), ImportSummary("x")).trainable


@pytest.mark.parametrize("place", ["a.csv/x.toml", "folder"])
def test_a_place_that_cannot_be_written_to_is_named(write: Write, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    initialised = initialise(write("a.csv", RATINGS), None, None, tmp_path / "x.toml")
    with pytest.raises((DataError, StorageError), match=place):
        write_config(initialised, tmp_path / place, overwrite=True)


def test_parts_of_vectors_follow_the_columns() -> None:
    data = make(2, 3, 9)
    vectors = pa.array([[1.0], [2.0], [3.0]], pa.list_(pa.float32()))
    blind = pa.table({"item_id": ["a", "b", "c"], "title": pa.nulls(3, pa.string()), "embedding_image": vectors})
    values = choose(Dataset(data.interactions, blind), ImportSummary("x")).values
    assert values["embeddings.text_weight"] == 0.0
    assert values["embeddings.precomputed"] == {"embedding_image": 1.0}


def test_an_existing_file_is_kept(write: Write, tmp_path: Path) -> None:
    output = write("x.toml", "mine")
    initialised = initialise(write("a.csv", RATINGS), None, None, output)
    with pytest.raises(DataError, match="exists already"):
        write_config(initialised, output)
    assert output.read_text() == "mine"
    write_config(initialised, output, overwrite=True)
    assert load_run_config(output).embeddings.text_weight == 0.0
