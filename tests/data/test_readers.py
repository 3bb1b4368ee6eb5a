"""Every format, on small files in its own form."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asterism.core.errors import DataError
from asterism.data.fingerprinting import dataset_fingerprint
from asterism.data.importing import Imported, import_dataset
from asterism.data.readers.detection import detect_format, read_files, read_folder
from asterism.data.rejects import Rejects

Write = Callable[[str, str | bytes], Path]


def load(folder: Path, format: str = "auto") -> Imported:
    return import_dataset(read_folder(folder, format), Rejects("stop"))


def events(imported: Imported) -> list[tuple[object, ...]]:
    table = imported.dataset.interactions
    return list(zip(*(table[name].to_pylist() for name in ("user_id", "item_id", "timestamp")), strict=True))


ROWS = [("u1", "i1", 1), ("u1", "i2", 2)]


PLAIN_LINES = b'{"user":"u1","item":"i1","ts":1}\n{"item":"i2","user":"u1","ts":2}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("interactions.csv", b"user_id,item_id,timestamp\nu1,i1,1\nu1,i2,2\n"),
        ("interactions.csv", b"\xef\xbb\xbfuser_id,item_id,timestamp\r\nu1,i1,1\r\n\r\nu1,i2,2"),
        ("interactions.csv", b'"user_id","item_id","timestamp"\n"u1","i1","1"\nu1,i2,2\n'),
        ("interactions.csv", b"user_id;item_id;timestamp\nu1;i1;1\nu1;i2;2\n"),
        ("interactions.csv", b"user_id|item_id|timestamp\nu1|i1|1\nu1|i2|2\n"),
        ("interactions.tsv", b"user_id\titem_id\ttimestamp\nu1\ti1\t1\nu1\ti2\t2\n"),
        ("interactions.csv.gz", gzip.compress(b"user_id,item_id,timestamp\nu1,i1,1\nu1,i2,2\n", mtime=0)),
        ("interactions.jsonl", b'{"uid":"u1","item_id":"i1","time":1}\n{"uid":"u1","item_id":"i2","time":"2"}\n'),
        ("interactions.jsonl.gz", gzip.compress(PLAIN_LINES, mtime=0)),
    ],
)  # fmt: skip
def test_plain_files(write: Write, tmp_path: Path, name: str, content: bytes) -> None:
    write(name, content)
    imported = load(tmp_path)
    assert events(imported) == ROWS
    assert imported.dataset.interactions["action"].to_pylist() == ["click", "click"]
    assert imported.dataset.interactions["value"].to_pylist() == [None, None]


def test_quoted_cells_keep_commas_lines_and_quotes(write: Write, tmp_path: Path) -> None:
    write("interactions.csv", "user_id,item_id,timestamp\nu1,i1,1\n")
    write("items.csv", 'item_id,title\ni1,"A ""B"",\nC"\n')
    assert load(tmp_path).dataset.items["title"].to_pylist() == ['A "B",\nC']


def test_other_column_names(write: Write, tmp_path: Path) -> None:
    write("interactions.csv", "User,productId,Event Time,rating\nu1,i1,1,4.5\n")
    write("items.csv", "id,name,genres,my_own\ni1,One,A|B,x\n")
    imported = load(tmp_path)
    assert events(imported) == [("u1", "i1", 1)]
    assert imported.dataset.interactions["action"].to_pylist() == ["rating"]
    assert imported.dataset.items.to_pylist() == [
        {"item_id": "i1", "title": "One", "categories": ["A", "B"], "my_own": "x"}
    ]
    assert imported.summary.tables["interactions"].renamed_columns == {
        "User": "user_id", "productId": "item_id", "Event Time": "timestamp", "rating": "value",
    }  # fmt: skip


def test_a_canonical_column_wins_over_an_alias(write: Write, tmp_path: Path) -> None:
    write("interactions.csv", "user_id,item_id,asin,timestamp\nu1,i1,X,1\n")
    imported = load(tmp_path)
    assert events(imported) == [("u1", "i1", 1)]
    assert imported.summary.tables["interactions"].ignored_columns == ["asin"]


def test_parquet_variations(tmp_path: Path) -> None:
    text = pa.large_string()
    pq.write_table(
        pa.table(
            {
                "user_id": pa.array([1, 1]),
                "item_id": pa.array(["i1", "i2"], text),
                "timestamp": pa.array([1, 2], pa.int32()),
                "split": pa.array(["train", "valid"], text),
            }
        ),
        tmp_path / "interactions.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "item_id": pa.array(["i1", "i2"], text),
                "title": pa.array(["One", ""], text),
                "categories": pa.array([["a"], []], pa.large_list(text)),
                "keywords": pa.array(["k", None], text),
                "embedding_image": pa.array([[1.0, 2.0], None], pa.list_(pa.float64())),
            }
        ),
        tmp_path / "items.parquet",
    )
    dataset = load(tmp_path).dataset
    assert dataset.interactions["user_id"].to_pylist() == ["1", "1"]
    assert dataset.interactions["split"].to_pylist() == ["train", "validation"]
    assert dataset.items.schema.field("title").type == pa.string()
    assert dataset.items.schema.field("categories").type == pa.list_(pa.string())
    assert dataset.items.schema.field("embedding_image").type == pa.list_(pa.float32())
    assert dataset.items["keywords"].to_pylist() == ["k", None]
    assert dataset.items["title"].to_pylist() == ["One", None]


def test_json_lines_of_changing_types(write: Write, tmp_path: Path) -> None:
    write(
        "interactions.jsonl",
        '{"user_id": 7, "item_id": "x", "timestamp": 1}\n{"user_id": "u", "item_id": 3, "timestamp": 2.0}\n',
    )
    write(
        "items.jsonl",
        '{"item_id": "x", "title": "X", "tags": ["a", "b"], "more": {"k": 1}, "embedding_v": [1, 2.5]}\n'
        '{"item_id": 3, "title": 1984}\n',
    )
    imported = load(tmp_path)
    assert events(imported) == [("7", "x", 1), ("u", "3", 2)]
    assert imported.dataset.items.to_pylist() == [
        {"item_id": "x", "title": "X", "categories": ["a", "b"], "more": '{"k": 1}', "embedding_v": [1.0, 2.5]},
        {"item_id": "3", "title": "1984", "categories": None, "more": None, "embedding_v": None},
    ]  # fmt: skip


def test_columns_of_any_type_are_kept(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"], "timestamp": [1]}), tmp_path / "interactions.parquet")
    extra = {
        "size": pa.array([{"w": 1}]),
        "weight": pa.array([Decimal("1.50")]),
        "parts": pa.array([[{"n": "x"}]]),
        "nothing": pa.nulls(1),
        "counts": pa.array([[1, 2]], pa.large_list(pa.int64())),
        "colour": pa.array(["red"]).dictionary_encode(),
    }
    pq.write_table(pa.table({"item_id": ["a"], "title": ["A"], **extra}), tmp_path / "items.parquet")
    imported = load(tmp_path)
    assert imported.dataset.items.to_pylist() == [
        {"item_id": "a", "title": "A", "size": '{"w": 1}', "weight": '"1.50"', "parts": '[{"n": "x"}]',
         "nothing": None, "counts": [1, 2], "colour": "red"}
    ]  # fmt: skip
    imported.dataset.save(tmp_path / "out")
    assert dataset_fingerprint(load(tmp_path / "out").dataset) == dataset_fingerprint(imported.dataset)


def test_movielens_csv(write: Write, tmp_path: Path) -> None:
    write("ratings.csv", "userId,movieId,rating,timestamp\n1,31,2.5,20\n1,10,3.0,10\n")
    write("movies.csv", 'movieId,title,genres\n10,"Net, The (1995)",Action|Crime\n31,Toy,(no genres listed)\n')
    imported = load(tmp_path)
    assert imported.summary.format == "movielens"
    assert events(imported) == [("1", "10", 10), ("1", "31", 20)]
    assert imported.dataset.interactions["action"].to_pylist() == ["rating", "rating"]
    assert imported.dataset.interactions["value"].to_pylist() == [3.0, 2.5]
    assert imported.dataset.items.to_pylist() == [
        {"item_id": "10", "title": "Net, The (1995)", "categories": ["Action", "Crime"], "kind": "movie"},
        {"item_id": "31", "title": "Toy", "categories": None, "kind": "movie"},
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_movielens_1m_and_10m(write: Write, tmp_path: Path, encoding: str) -> None:
    write("ratings.dat", b"1::1193::5::978300760\n1::661::3::978302109\n")
    write("movies.dat", '1193::Misérables, Les (1995)::Drama|Musical\n661::A "B" C::Comedy\n'.encode(encoding))
    write("users.dat", b"1::F::1::10::48067\n")
    dataset = load(tmp_path).dataset
    assert dataset.items["title"].to_pylist() == ["Misérables, Les (1995)", 'A "B" C']
    assert dataset.items["categories"].to_pylist() == [["Drama", "Musical"], ["Comedy"]]
    assert dataset.users is not None
    assert dataset.users.to_pylist() == [
        {"user_id": "1", "gender": "F", "age": "1", "occupation": "10", "zip_code": "48067"}
    ]
    assert dataset.interactions["value"].to_pylist() == [5.0, 3.0]


def test_movielens_1m_names_the_line_of_a_bad_row(write: Write, tmp_path: Path) -> None:
    write("ratings.dat", b"1::1193::5::978300760\n1::661::3\n")
    write("movies.dat", b"1193::A::B\n")
    with pytest.raises(DataError, match=r"ratings\.dat:2: the line has 3 cells, the header has 4"):
        load(tmp_path)


def test_amazon_2014(write: Write, tmp_path: Path) -> None:
    review = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1400000000, "helpful": [0, 0]}
    write("reviews_Beauty_5.json.gz", gzip.compress(json.dumps(review).encode()))
    write(
        "meta_Beauty.json",
        "{'asin': 'B1', 'title': \"It's\", 'price': 4.5, 'imUrl': 'http://x/y.jpg', 'brand': 'ACME', "
        "'categories': [['Beauty', 'Hair'], ['Beauty', 'Skin']], 'salesRank': {'Beauty': 3}}\n",
    )
    imported = load(tmp_path)
    assert imported.summary.format == "amazon"
    assert events(imported) == [("A1", "B1", 1400000000)]
    assert imported.dataset.items.to_pylist() == [
        {"item_id": "B1", "title": "It's", "description": None, "categories": ["Beauty", "Hair", "Skin"],
         "brand": "ACME", "price": 4.5, "kind": "product", "image": "http://x/y.jpg"}
    ]  # fmt: skip


def test_amazon_2018(write: Write, tmp_path: Path) -> None:
    review = {"overall": 4.0, "reviewerID": "A1", "asin": "B1", "unixReviewTime": 1500000000, "style": {"Size:": "L"}}
    write("Industrial_5.json", json.dumps(review) + "\n")
    meta = [
        {"asin": "B1", "title": "T", "category": ["Industrial"], "description": ["One", "two"], "price": "$1,012.50"},
        {"asin": "B2", "title": "U", "category": [], "description": [], "price": "$1 - $2"},
    ]
    write("meta_Industrial.json", "".join(json.dumps(one) + "\n" for one in meta))
    imported = load(tmp_path)
    items = imported.dataset.items
    assert items["price"].to_pylist() == [1012.5, None]
    assert items["description"].to_pylist() == ["One two", None]
    assert items["categories"].to_pylist() == [["Industrial"], []]
    assert ["1 prices are not amounts" in note for note in imported.summary.notes] == [True]


def test_amazon_2023_knows_its_milliseconds(write: Write, tmp_path: Path) -> None:
    review = {
        "rating": 5.0,
        "title": "x",
        "asin": "B9",
        "parent_asin": "B1",
        "user_id": "U",
        "timestamp": 1588687728923,
    }
    write("All_Beauty.jsonl", json.dumps(review) + "\n")
    images = [{"thumb": "t", "large": "l", "hi_res": None}]
    meta = {"title": "T", "parent_asin": "B1", "price": None, "store": "S", "categories": ["Hair"], "images": images}
    write("meta_All_Beauty.jsonl", json.dumps(meta) + "\n")
    imported = load(tmp_path)
    assert events(imported) == [("U", "B1", 1588687728)]
    item = imported.dataset.items.to_pylist()[0]
    assert (item["brand"], item["categories"], item["image"]) == ("S", ["Hair"], "l")


def test_amazon_by_named_files(write: Write, tmp_path: Path) -> None:
    review = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1400000000}
    reviews = write("r.json", json.dumps(review))
    meta = write("m.json", "{'asin': 'B1', 'title': 'T'}")
    imported = import_dataset(read_files(reviews, meta, None), Rejects("stop"))
    assert imported.dataset.items["title"].to_pylist() == ["T"]


def test_recbole(write: Write, tmp_path: Path) -> None:
    write("x.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t4\t8.8E8\n")
    write(
        "x.item",
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\tv:float_seq\n2\tToy "Story\tAnim Comedy\t1 2\n',
    )
    write("x.user", "user_id:token\tage:token\n1\t24\n")
    imported = load(tmp_path)
    assert imported.summary.format == "recbole"
    assert events(imported) == [("1", "2", 880000000)]
    assert imported.dataset.items.to_pylist() == [
        {"item_id": "2", "title": 'Toy "Story', "categories": ["Anim", "Comedy"], "v": "1 2"}
    ]
    assert imported.dataset.users is not None
    assert imported.dataset.users.to_pylist() == [{"user_id": "1", "age": "24"}]


def test_recbole_parts_become_the_split(write: Write, tmp_path: Path) -> None:
    for time, part in enumerate(("train", "valid", "test")):
        write(f"x.{part}.inter", f"user_id:token\titem_id:token\ttimestamp:float\n1\t{part}\t{time}\n")
    table = load(tmp_path).dataset.interactions
    found = dict(zip(table["item_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert found == {"train": "train", "valid": "validation", "test": "test"}


def test_recbole_header_without_types(write: Write, tmp_path: Path) -> None:
    write("x.inter", "user_id\titem_id:token\n1\t2\n")
    with pytest.raises(DataError, match="'user_id' is not like `user_id:token`"):
        load(tmp_path)


def test_minionerec(write: Write, tmp_path: Path) -> None:
    head = "user_id,history_item_title,item_title,history_item_id,item_id\n"
    write(
        "train/x.csv",
        head + "A,\"['t']\",u,\"['1']\",2\nA,\"['t', 'u']\",v,\"['1', '2']\",3\nB,\"['t']\",u,\"[1]\",2\n",
    )
    write("valid/x.csv", head + "A,\"['t']\",w,\"['1', '2', '3']\",4\n")
    write("test/x.csv", head + "B,\"['t']\",w,\"['1', '2']\",4\n")
    write("x.item.json", json.dumps({"1": {"title": "One", "categories": ["a", "b"]}, "2": {"title": "Two"}}))
    imported = load(tmp_path)
    assert imported.summary.format == "minionerec"
    rows = imported.dataset.interactions.select(["user_id", "item_id", "timestamp", "split"]).to_pylist()
    assert sorted(tuple(row.values()) for row in rows) == [
        ("A", "1", 0, "train"), ("A", "2", 1, "train"), ("A", "3", 2, "train"), ("A", "4", 3, "validation"),
        ("B", "1", 0, "train"), ("B", "2", 1, "train"), ("B", "4", 2, "test"),
    ]  # fmt: skip
    assert imported.dataset.items["categories"].to_pylist() == [["a", "b"], None, None, None]


def test_unknown_folders_say_what_they_hold(write: Write, tmp_path: Path) -> None:
    write("notes.txt", "x")
    with pytest.raises(DataError, match=r"the folder holds notes\.txt.*--format"):
        detect_format(tmp_path)
    with pytest.raises(DataError, match="'excel' is no format"):
        read_folder(tmp_path, "excel")
    with pytest.raises(DataError, match="no such folder"):
        detect_format(tmp_path / "nowhere")


def test_two_files_for_one_table(write: Write, tmp_path: Path) -> None:
    write("interactions.csv", "x")
    write("interactions.jsonl", "x")
    with pytest.raises(DataError, match="several files"):
        detect_format(tmp_path)
