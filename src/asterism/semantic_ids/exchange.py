"""Exchange with MiniOneRec: `<name>.index.json` (item → tokens) and `<name>.emb-<model>.npy` (item vectors)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import DataError
from asterism.core.semantic_id import SemanticId, SemanticIdTable, format_semantic_id, parse_semantic_id
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.collisions import deduplication_codes
from asterism.semantic_ids.quantizer import check_vectors
from asterism.semantic_ids.table import unique_table

_LARGEST_CODE = 65_535  # a larger number is a mistake, and would ask for a codebook of that size


class ItemPaths(NamedTuple):
    """Items and their codes as another program wrote them; paths may be shared."""

    item_ids: list[str]
    paths: NDArray[np.int32]  # (N, levels)


def read_index(path: Path) -> ItemPaths:
    """Read `{"0": ["<a_12>", "<b_201>", "<c_7>"], …}`; numbered items come in the order of their numbers.

    Raises `DataError` naming the file, and the item whose tokens are not a path like the others'.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"the file cannot be read as JSON ({error})", file=str(path)) from error
    if not isinstance(index, dict) or not index:
        raise DataError("the file is not one object of items, each with its list of tokens", file=str(path))
    for item, tokens in index.items():
        if not isinstance(tokens, list) or not all(isinstance(one, str) for one in tokens):
            raise DataError(f"item {item!r} has no list of tokens like <a_12>", file=str(path))
    item_ids = _numbered_in_order(list(index))
    return ItemPaths(item_ids, _parse(item_ids, ("".join(index[one]) for one in item_ids), str(path)))


def paths_of(index: ItemPaths, item_ids: Sequence[str], source: str) -> NDArray[np.int32]:
    """(N, levels) the paths of these items, in their order.

    Raises `DataError` where the index lacks one, or names another: items that are numbers all look alike, so the index
    of other data would pass for this one's if it were only long enough.
    """
    place_of = {item: place for place, item in enumerate(index.item_ids)}
    missing = [item for item in item_ids if item not in place_of]
    if missing:
        raise DataError(
            f"the index has no semantic id for {len(missing)} of the catalogue's {len(item_ids)} items, the first of "
            f"them {missing[0]!r}; give the index that belongs to these data",
            file=source,
        )
    unknown = place_of.keys() - set(item_ids)
    if unknown:
        first = min(unknown, key=place_of.__getitem__)
        raise DataError(
            f"the index names what is not among the catalogue's {len(item_ids)} items: {len(unknown)}, the first of "
            f"them {first!r}; give the index that belongs to these data, or take them out",
            file=source,
        )
    return index.paths[[place_of[item] for item in item_ids]]


def parse_paths(item_ids: Sequence[str], texts: Sequence[str | None], source: str) -> ItemPaths:
    """Codes from a column of texts such as `<a_12><b_201><c_7>`; raises `DataError` naming the source and item."""
    return ItemPaths(list(item_ids), _parse(item_ids, (text or "" for text in texts), source))


def write_index(path: Path, item_ids: Sequence[str], table: SemanticIdTable) -> None:
    """Write a table as MiniOneRec reads it, all levels, one item a line; raises `DataError` on other items."""
    if len(item_ids) != len(table):
        raise DataError(f"{len(item_ids)} item ids do not belong to a table of {len(table)} items", file=str(path))
    lines = [
        f"{json.dumps(item, ensure_ascii=False)}: {json.dumps(_tokens(codes))}"
        for item, codes in zip(item_ids, table.codes.tolist(), strict=True)
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_vectors(path: Path) -> NDArray[np.float32]:
    """Item vectors (N, D) of a .npy file; raises `DataError` on anything but numbers."""
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
    except (OSError, EOFError, TypeError, ValueError) as error:
        raise DataError(f"this is not a .npy file of numbers ({error})", file=str(path)) from error


def adopt(paths: NDArray[np.int32], vectors: NDArray[np.floating[Any]]) -> tuple[SemanticIdTable, Codebooks]:
    """A table of codes made elsewhere, and codebooks for items that come later.

    A centroid is the mean of what the levels above leave of its items' vectors; a code without items has an infinite
    price, so no later item takes it. A last column that already counts the items of a path stays the
    de-duplication level, otherwise one is added. Raises `DataError` where the vectors are not those of the items.
    """
    checked = check_vectors(vectors)
    if len(checked) != len(paths):
        raise DataError(f"{len(checked)} vectors do not belong to {len(paths)} items; give those of the same file")
    counted = paths.shape[1] > 1 and np.array_equal(paths[:, -1], deduplication_codes(paths[:, :-1]))
    fitted = paths[:, :-1] if counted else paths
    residual = checked.astype(np.float64)
    centroids, prices = [], []
    for codes in fitted.T:
        counts = np.bincount(codes)
        sums = np.zeros((len(counts), residual.shape[1]))
        np.add.at(sums, codes, residual)
        means = sums / np.maximum(counts, 1)[:, None]
        residual -= means[codes]
        centroids.append(means.astype(np.float32))
        prices.append(np.where(counts > 0, 0.0, np.inf).astype(np.float32))
    return unique_table(fitted, int(fitted.max()) + 1), Codebooks(tuple(centroids), tuple(prices))


def _parse(item_ids: Sequence[str], texts: Iterable[str], source: str) -> NDArray[np.int32]:
    rows: list[SemanticId] = []
    for item, text in zip(item_ids, texts, strict=True):
        try:
            rows.append(parse_semantic_id(text))
        except ValueError as error:
            raise DataError(f"item {item!r}: {error}", file=source) from error
        if max(rows[-1]) > _LARGEST_CODE:
            raise DataError(f"item {item!r} has the code {max(rows[-1])}; none may exceed {_LARGEST_CODE}", file=source)
        if len(rows[-1]) != len(rows[0]):
            raise DataError(
                f"item {item!r} has {len(rows[-1])} codes, the items before it have {len(rows[0])}", file=source
            )
    return np.array(rows, dtype=np.int32).reshape(len(rows), -1)


def _tokens(codes: Sequence[int]) -> list[str]:
    return [f"{one}>" for one in format_semantic_id(codes).split(">")[:-1]]


def _numbered_in_order(item_ids: list[str]) -> list[str]:
    numbers = [str(number) for number in range(len(item_ids))]
    return numbers if set(numbers) == set(item_ids) else item_ids
