"""Amazon reviews of 2014 (metadata as Python literals), 2018 and 2023, as JSON lines, also gzipped."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

from asterism.core import records
from asterism.core.errors import DataError
from asterism.data.raw import RawDataset, RawTable
from asterism.data.readers.json_lines import Row, first_object, read_json_lines

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
#: Fields of the reviews of 2023; a log with any other is somebody's own.
_REVIEW_2023 = frozenset(
    {"rating", "title", "text", "images", "asin", "parent_asin", "user_id", "timestamp", "helpful_vote",
     "helpful_votes", "verified_purchase"}
)  # fmt: skip
_PRICE = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?)")


def find_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The review files and the metadata files of a folder, told by their first object."""
    reviews, metadata = [], []
    for file in _json_files(folder):
        first = first_object(file, _parse)
        if first is not None and _is_review(first):
            reviews.append(file)
        elif first is not None and _is_metadata(first, file):
            metadata.append(file)
    return reviews, metadata


def _json_files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file() and one.name.endswith(_SUFFIXES))


def is_amazon(folder: Path) -> bool:
    """Whether a folder holds Amazon reviews."""
    return bool(find_files(folder)[0])


def read_amazon(folder: Path) -> RawDataset:
    """Read reviews as events of the action `rating`, metadata as products; the release is told by the fields."""
    reviews, metadata = find_files(folder)
    if not reviews:
        raise DataError("no file here holds Amazon reviews as JSON lines", file=str(folder))
    others = [file for file in _json_files(folder) if file not in reviews and file not in metadata]
    notes = tuple(f"{file}: neither reviews nor metadata were recognised in it, so it was not read" for file in others)
    return RawDataset(
        "amazon", tuple(read_reviews(file) for file in reviews), tuple(read_metadata(file) for file in metadata),
        notes=notes,
    )  # fmt: skip


def is_review_file(file: Path) -> bool:
    """Whether a file begins with an Amazon review."""
    first = first_object(file, _parse) if file.is_file() and file.name.endswith(_SUFFIXES) else None
    return first is not None and _is_review(first)


def is_metadata_file(file: Path) -> bool:
    """Whether a file begins with what Amazon knows about an item."""
    first = first_object(file, _parse) if file.is_file() and file.name.endswith(_SUFFIXES) else None
    return first is not None and _is_item(first)


def _parse(line: str) -> object:
    """JSON, or the Python literal that 2014's metadata is written as."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return ast.literal_eval(line)


def _is_review(row: Row) -> bool:
    is_of_2023 = {"user_id", "parent_asin", "timestamp", "rating"} <= row.keys() <= _REVIEW_2023
    return ("reviewerID" in row and "asin" in row) or is_of_2023


def _is_metadata(row: Row, file: Path) -> bool:
    return _is_item(row) or file.name.startswith("meta")


def _is_item(row: Row) -> bool:
    return ("parent_asin" in row or "asin" in row) and not ("user_id" in row or "reviewerID" in row)


def read_reviews(file: Path) -> RawTable:
    """Read reviews of any release; those of 2023 are in milliseconds."""
    first = first_object(file, _parse) or {}
    if "reviewerID" in first:
        return read_json_lines(file, _pick_fields(_OLD_REVIEW), _parse)
    return read_json_lines(file, _pick_fields(_NEW_REVIEW), _parse).with_unit("ms")


_OLD_REVIEW = {
    "reviewerID": records.USER_ID,
    "asin": records.ITEM_ID,
    "unixReviewTime": records.TIMESTAMP,
    "overall": "rating",
}
_NEW_REVIEW = {
    "user_id": records.USER_ID,
    "parent_asin": records.ITEM_ID,
    "timestamp": records.TIMESTAMP,
    "rating": "rating",
}


def _pick_fields(names: dict[str, str]) -> Callable[[Row], Row]:
    def pick(row: Row) -> Row:
        return {to: row.get(name) for name, to in names.items()}

    return pick


def read_metadata(file: Path) -> RawTable:
    """Read what Amazon knows about items, as products."""
    unread_prices = 0

    def shape(row: Row) -> Row:
        nonlocal unread_prices
        price = _price(row.get("price"))
        unread_prices += price is None and row.get("price") not in (None, "", "None", "—")
        return {
            records.ITEM_ID: row.get("parent_asin", row.get("asin")),
            records.TITLE: row.get("title"),
            records.DESCRIPTION: _joined(row.get("description")),
            records.CATEGORIES: _categories(row),
            records.BRAND: row.get("brand", row.get("store")),
            records.PRICE: price,
            records.KIND: records.Kind.PRODUCT.value,
            records.IMAGE: _image(row),
        }

    raw = read_json_lines(file, shape, _parse)
    note = f"{unread_prices} prices are not amounts (ranges, markup) and were left out"
    return raw.with_note(note) if unread_prices else raw


def _price(value: object) -> float | None:
    """An amount in dollars; a range or anything else is no price."""
    if isinstance(value, int | float):
        return float(value)
    match = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1].replace(",", "")) if match else None


def _joined(value: object) -> object:
    return " ".join(str(one) for one in value) if isinstance(value, list) else value


def _categories(row: Row) -> list[str]:
    """Names in first-seen order; 2014 gives a list of paths, 2018 `category`, 2023 `categories`."""
    given = row.get("categories") or row.get("category") or []
    names: list[str] = []
    for one in given if isinstance(given, list) else [given]:
        names += _path(one)
    return list(dict.fromkeys(names))


def _path(value: object) -> list[str]:
    """A path of categories: a list, or the JSON text of one."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return [str(value)]
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _image(row: Row) -> object:
    """The first picture's address."""
    if isinstance(row.get("imUrl"), str):
        return row["imUrl"]
    images = row.get("imageURLHighRes") or row.get("imageURL") or row.get("images") or []
    first = images[0] if isinstance(images, list) and images else None
    if isinstance(first, str) and first.startswith("{"):
        pictures = json.loads(first)
        return pictures.get("hi_res") or pictures.get("large")
    return first
