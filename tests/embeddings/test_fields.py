"""Texts, structured features and precomputed columns as they come from the items table."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from asterism.config import EmbeddingConfig
from asterism.core.errors import DataError
from asterism.core.records import Kind
from asterism.embeddings.precomputed import precomputed_part
from asterism.embeddings.structured import structured_part
from asterism.embeddings.texts import item_texts


def test_fields_are_joined_in_order_and_empty_ones_left_out() -> None:
    items = pa.table(
        {
            "title": ["Red  lamp\n", None, ""],
            "categories": [["Home", "Light"], ["Home", None], []],
            "brand": ["A", "B", None],
        }
    )
    fields = ("title", "brand", "categories", "keywords")
    assert item_texts(items, fields) == ["Red lamp. A. Home, Light", "B. Home", ""]
    assert item_texts(items, ("keywords",)) == ["", "", ""]
    assert item_texts(items.slice(0, 0), fields) == []


def test_each_kind_reads_its_own_columns() -> None:
    items = pa.table(
        {
            "title": ["Blue", "News", "Lamp", None, "Other"],
            "artist": ["Ada", "x", "x", None, "x"],
            "body": ["y", "long text", "y", None, "y"],
            "kind": ["music", "article", "product", "music", None],
        }
    )
    by_kind = {"music": ("title", "artist"), "article": ("title", "gone", "body"), "movie": ("body",)}
    assert item_texts(items, ("title",), by_kind) == ["Blue. Ada", "News. long text", "Lamp", "", "Other"]
    assert item_texts(items.drop_columns("kind"), ("title",), by_kind) == ["Blue", "News", "Lamp", "", "Other"]
    assert item_texts(items.slice(0, 0), ("title",), by_kind) == []


def test_default_lists_read_a_plain_catalogue_alike() -> None:
    """Where there are no columns of their own, the kinds' texts are those of `text_fields`."""
    config = EmbeddingConfig()
    columns = {name: [f"{name} words"] * len(Kind) for name in config.text_fields}
    items = pa.table({**columns, "kind": [kind.value for kind in Kind]})
    own = config.fields_by_kind.model_dump()
    assert set(own) == {kind.value for kind in Kind}
    assert item_texts(items, config.text_fields, own) == item_texts(items, config.text_fields)


def test_a_long_description_is_cut_between_words() -> None:
    (text,) = item_texts(pa.table({"description": ["word " * 1000]}), ("description",))
    assert 590 <= len(text) <= 600
    assert text.endswith("word")
    assert len(item_texts(pa.table({"description": ["x" * 5000]}), ("description",))[0]) == 600


def test_like_fields_give_like_features() -> None:
    items = pa.table(
        {
            "categories": [["Home", "Light"], ["Home", "Chairs"], ["Toys", "Cars"], None],
            "brand": ["A", "a", "B", None],
            "price": [10.0, 11.0, 900.0, None],
            "kind": ["product", "product", "movie", None],
            "created_at": [1_600_000_000, 1_610_000_000, 400_000_000, None],
        }
    )
    part = structured_part(items)
    near, far = part.vectors[0] @ part.vectors[1], part.vectors[0] @ part.vectors[2]
    assert near > far + 2.0
    assert part.present.tolist() == [True, True, True, False]
    assert_allclose(np.square(part.vectors[:3]).sum(axis=1), 5.0, rtol=1e-5)  # five blocks of unit length


def test_no_structured_field_is_needed() -> None:
    assert not structured_part(pa.table({"item_id": ["x", "y"]})).present.any()


@pytest.mark.parametrize("price", [0.0, -3.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_no_price(price: float) -> None:
    assert not structured_part(pa.table({"price": [price]})).present.any()


def test_precomputed_vectors_may_be_null() -> None:
    part = precomputed_part(pa.table({"embedding_image": [[1.0, 2.0], None, [3.0, 4.0]]}), "embedding_image")
    assert part.present.tolist() == [True, False, True]
    assert_array_equal(part.vectors[[0, 2]], [[1, 2], [3, 4]])


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.int8()), pa.list_(pa.float16(), 2)])
def test_precomputed_vectors_may_be_lists_of_any_kind(kind: pa.DataType) -> None:
    whole = pa.array([[9, 9], [1, 2], None, [3, 4], None, [5, 6]]).cast(pa.list_(pa.float16())).cast(kind)
    column = pa.chunked_array([whole.slice(1, 2), whole.slice(3, 0), whole.slice(3, 3)])
    part = precomputed_part(pa.table({"embedding_v": column}), "embedding_v")
    assert part.present.tolist() == [True, False, True, False, True]
    assert_array_equal(part.vectors, [[1, 2], [0, 0], [3, 4], [0, 0], [5, 6]])


def test_precomputed_vectors_are_not_read_number_by_number() -> None:
    vectors = np.random.default_rng(0).normal(size=(20_000, 32)).astype(np.float32)
    items = pa.table({"embedding_v": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), 32)})
    tracemalloc.start()
    part = precomputed_part(items, "embedding_v")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert_array_equal(part.vectors, vectors)
    assert peak < 4 * vectors.nbytes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0], None, [3.0]], "field `embedding_image`: row 2 has 1 numbers, row 0 has 2"),
        ([None, [], []], "row 1 has 0 numbers"),
        ([[1.0], [float("nan")]], "row 1 holds a null, NaN or infinity"),
        ([[1.0], [None]], "row 1 holds a null"),
        ([1.0, 2.0], "must be a list of numbers, but the type is double"),
        ([["a"], ["b"]], "must be a list of numbers \\("),
    ],
)
def test_a_broken_precomputed_column_is_named(values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        precomputed_part(pa.table({"embedding_image": values}), "embedding_image")


def test_an_absent_precomputed_column_lists_the_others() -> None:
    with pytest.raises(DataError, match="field `embedding_image`: there is no such column; the items have embedding_a"):
        precomputed_part(pa.table({"embedding_a": [[1.0]]}), "embedding_image")
