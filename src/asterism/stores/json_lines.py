"""Items and users as JSON lines, read and written as a stream: a catalogue of any size passes through."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import isfinite
from typing import IO, Any, Final, TypeVar

from asterism.core.errors import DataError
from asterism.core.progress import track
from asterism.core.records import Kind
from asterism.stores.catalogue import Catalogue, Item, StoredItem
from asterism.stores.users import User, Users

T = TypeVar("T")

_BATCH: Final = 1_000
_ID_CHARACTERS: Final = 256  # what requests can name; a longer one could never be read or deleted again
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "item_id": (str,),
    "title": (str,),
    "description": (str, type(None)),
    "categories": (list,),
    "brand": (str, type(None)),
    "price": (float, int, type(None)),
    "kind": (str,),
    "created_at": (int, type(None)),
    "available": (bool,),
    "hidden": (bool,),
    "image": (str, type(None)),
}


def export_items(catalogue: Catalogue, stream: IO[str]) -> int:
    """Write all items with their images, one a line; returns how many."""
    return _write(map(item_line, catalogue.export()), stream, "exporting items")


def import_items(catalogue: Catalogue, lines: Iterable[str], source: str = "items") -> int:
    """Add or replace items; returns how many. Raises `DataError` naming the line; those of earlier parts are kept."""
    return _read(lines, source, stored_item, catalogue.restore, "importing items")


def export_users(users: Users, stream: IO[str]) -> int:
    """Write all users, one a line; returns how many."""
    return _write(map(user_line, users.export()), stream, "exporting users")


def import_users(users: Users, lines: Iterable[str], source: str = "users") -> int:
    """Add or replace users; returns how many. Raises `DataError` naming the line; those of earlier parts are kept."""
    return _read(lines, source, user_of, users.upsert, "importing users")


def _write(values: Iterable[Mapping[str, Any]], stream: IO[str], description: str) -> int:
    count = 0
    for value in track(values, description):
        stream.write(json.dumps(value, ensure_ascii=False) + "\n")
        count += 1
    return count


def _read(
    lines: Iterable[str],
    source: str,
    parse: Callable[[dict[str, Any]], T],
    keep: Callable[[Sequence[T]], None],
    description: str,
) -> int:
    count = 0
    parsed = track(_parsed(lines, source, parse), description)
    while batch := list(islice(parsed, _BATCH)):
        keep(batch)
        count += len(batch)
    return count


def _parsed(lines: Iterable[str], source: str, parse: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            if not isinstance(raw, dict):
                raise DataError("it is no JSON object; write one a line")
            yield parse(raw)
        except json.JSONDecodeError as error:
            raise DataError(f"it is no JSON ({error.msg}); write one object a line", file=source, line=number) from None
        except DataError as error:
            raise DataError(error.reason, file=source, line=number, field=error.field) from None


def item_line(stored: StoredItem) -> dict[str, Any]:
    """An item as a line holds it."""
    line = {**dataclasses.asdict(stored.item), "hidden": stored.hidden, "image": stored.image}
    del line["has_image"]
    return line


def user_line(user: User) -> dict[str, Any]:
    """A user as a line holds them."""
    return {"user_id": user.user_id, **user.attributes}


def stored_item(raw: dict[str, Any]) -> StoredItem:
    """The item of a line; raises `DataError`."""
    for name, value in raw.items():
        if name not in _TYPES:
            raise DataError(f"it is not known; known here: {', '.join(_TYPES)}", field=name)
        if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and bool not in _TYPES[name]):
            raise DataError(f"{value!r} is no {_TYPES[name][0].__name__}; correct it", field=name)
        _check_finite(name, value)
    for name in ("item_id", "title"):
        if not raw.get(name):
            raise DataError("it is missing or empty; give one", field=name)
    _check_id("item_id", raw["item_id"])
    categories = raw.pop("categories", [])
    if not all(isinstance(one, str) and one for one in categories):
        raise DataError(f"{categories!r} holds something that is empty or no text; correct it", field="categories")
    if raw.get("kind", Kind.PRODUCT) not in tuple(Kind):
        raise DataError(f"{raw['kind']!r} is none of {', '.join(Kind)}", field="kind")
    _check_price(raw.get("price"))
    hidden, image = raw.pop("hidden", False), raw.pop("image", None)
    if image is not None and not image.lstrip().startswith("<"):
        raise DataError("it is no SVG text, which begins with `<`; leave it out or correct it", field="image")
    return StoredItem(Item(**raw, categories=tuple(categories), has_image=image is not None), hidden, image)


def user_of(raw: dict[str, Any]) -> User:
    """The user of a line; raises `DataError`."""
    user_id = raw.pop("user_id", None)
    if not isinstance(user_id, str) or not user_id:
        raise DataError("it is missing or no text; give one", field="user_id")
    _check_id("user_id", user_id)
    for name, value in raw.items():
        if not isinstance(value, str | int | float | bool | None):
            raise DataError(f"{value!r} is neither text nor number; flatten it", field=name)
        _check_finite(name, value)
    return User(user_id, raw)


def _check_id(name: str, value: str) -> None:
    if len(value) > _ID_CHARACTERS:
        raise DataError(f"it has {len(value)} characters; give one of {_ID_CHARACTERS} at most", field=name)


def _check_price(price: float | None) -> None:
    if price is not None and price < 0:
        raise DataError(f"{price!r} is no price; give one from 0 on", field="price")


def _check_finite(name: str, value: object) -> None:
    """JSON writes no infinity, but 1e999 is read as one, and not every database takes it."""
    if isinstance(value, float) and not isfinite(value):
        raise DataError(f"{value!r} is no finite number; correct it", field=name)
