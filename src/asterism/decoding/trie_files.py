"""The trie on disk: one file whose arrays are mapped into memory, so that processes share what they do not change."""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import BundleError
from asterism.decoding.arena import Arena
from asterism.decoding.block import entry_types
from asterism.decoding.trie import Trie
from asterism.decoding.trie_build import FlatTrie, item_types, node_types
from asterism.decoding.trie_layout import Layout

_MAGIC: Final = b"ASTRTRIE"
FORMAT_VERSION: Final = 1
#: Magic, format, bytes of the header, CRC-32 of the header.
_PREAMBLE: Final = struct.Struct("<8sIII")
#: Arrays begin at multiples of so many bytes.
_ALIGNMENT: Final = 4096


def save_trie(path: Path, trie: Trie) -> None:
    """Write what can be generated now, without gaps; readers of the path see the old file or the new one.

    Spare rows are holes at the end of each array: they take no room on disk where the file system knows holes.
    """
    flat = trie.compact()
    arrays = _arrays(flat)
    described: list[dict[str, Any]] = []
    offset = 0
    for name, (array, used) in arrays.items():
        stored = array[:used]
        described.append(
            {"name": name, "offset": offset, "rows": len(array), "used": used, "crc32": zlib.crc32(_bytes(stored))}
        )
        offset += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    header = {
        "codebook_sizes": flat.layout.sizes,
        "count": flat.count,
        "known_items": flat.known_items,
        "arrays": described,
    }
    text = json.dumps(header).encode()
    first = -(-(_PREAMBLE.size + len(text)) // _ALIGNMENT) * _ALIGNMENT
    staged = path.with_name(f".{path.name}.writing")
    with staged.open("wb") as stream:
        stream.write(_PREAMBLE.pack(_MAGIC, FORMAT_VERSION, len(text), zlib.crc32(text)) + text)
        for one, (array, used) in zip(described, arrays.values(), strict=True):
            stream.seek(first + one["offset"])
            stream.write(_bytes(array[:used]))
        stream.truncate(first + offset)
        stream.flush()
        os.fsync(stream.fileno())
    staged.replace(path)


def load_trie(path: Path, *, verify: bool = True) -> Trie:
    """Map a saved trie; inserts and removes change this process's copy of the pages they touch, never the file.

    `verify` reads all of the file once and compares checksums. Raises `BundleError` where the file is missing, of
    another format, cut or changed.
    """
    try:
        with path.open("rb") as stream:
            header, first = _read_header(path, stream)
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise BundleError(f"{path}: there is no such file; save a trie there") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be mapped ({error}); save the trie again") from error
    layout = Layout.of(header["codebook_sizes"])
    columns = _types(layout)
    arrays = {}
    for one in header["arrays"]:
        kind, shape = columns[one["name"]]
        entries = one["rows"] * int(np.prod(shape, dtype=np.int64))
        start = first + one["offset"]
        if start + entries * kind.itemsize > len(mapped):
            raise BundleError(f"{path} was cut short: it has {len(mapped)} bytes; copy it again")
        array = np.frombuffer(mapped, kind, entries, start).reshape(one["rows"], *shape)
        if verify and zlib.crc32(_bytes(array[: one["used"]])) != one["crc32"]:
            raise BundleError(f"{path} was changed after it was written (array {one['name']}); copy it again")
        arrays[one["name"]] = (array, one["used"])
    return Trie.from_flat(_flat(layout, header, arrays))


def _read_header(path: Path, stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header, and where arrays begin."""
    preamble = stream.read(_PREAMBLE.size)
    if len(preamble) < _PREAMBLE.size or not preamble.startswith(_MAGIC):
        raise BundleError(f"{path} is not a saved trie; save one with `save_trie`")
    _, version, size, checksum = _PREAMBLE.unpack(preamble)
    if version != FORMAT_VERSION:
        raise BundleError(f"{path}: format {version} is not {FORMAT_VERSION}, the one this version reads; save it anew")
    text = stream.read(size)
    if len(text) < size or zlib.crc32(text) != checksum:
        raise BundleError(f"{path}: the header was cut or changed; copy the file again")
    return json.loads(text), -(-(_PREAMBLE.size + size) // _ALIGNMENT) * _ALIGNMENT


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _types(layout: Layout) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Types and row shapes of all arrays by name."""
    types: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        f"head_{level}": (np.dtype(np.uint64), (layout.words(level),)) for level in range(layout.head)
    }
    for part, own in (("nodes", node_types), ("entries", entry_types), ("items", item_types)):
        types |= {f"{part}.{name}": one for name, one in own(layout).items()}
    return types


def _arrays(flat: FlatTrie) -> dict[str, tuple[NDArray[Any], int]]:
    """All arrays by name, with how many rows of each are in use."""
    arrays: dict[str, tuple[NDArray[Any], int]] = {}
    arrays |= {f"head_{level}": (bits, len(bits)) for level, bits in enumerate(flat.heads)}
    for part, arena in (("nodes", flat.nodes), ("entries", flat.entries), ("items", flat.items)):
        arrays |= {f"{part}.{name}": (column, arena.used) for name, column in arena.columns.items()}
    return arrays


def _flat(layout: Layout, header: dict[str, Any], arrays: dict[str, tuple[NDArray[Any], int]]) -> FlatTrie:
    heads = [arrays[f"head_{level}"][0] for level in range(layout.head)]
    arenas = []
    for part in ("nodes", "entries", "items"):
        own = {name.removeprefix(f"{part}."): one for name, one in arrays.items() if name.startswith(f"{part}.")}
        arenas.append(Arena({name: array for name, (array, _) in own.items()}, next(iter(own.values()))[1]))
    return FlatTrie(layout, header["count"], header["known_items"], heads, *arenas)
