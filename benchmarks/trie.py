"""The trie: building, memory, loading, changes, and what the constraint costs a beam step; one JSON line at the end."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.admission import Admission
from asterism.decoding.candidates import Beams, Candidates, expand, lead
from asterism.decoding.compiled import CompiledSearch, is_compiled
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.selection import by_position, select_top
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie import Trie
from asterism.decoding.trie_files import load_trie, save_trie
from asterism.models.policy import Policy

CODES = 256
ROUNDS = 5
Result = TypeVar("Result")
Scores = NDArray[np.float32]


class Step(NamedTuple):
    """One step of a search: where its beams stand, what the model says, and which steps were chosen."""

    level: int
    beams: Beams
    log_probs: Scores
    found: Candidates
    chosen: NDArray[np.int64]


def make_table(items: int, random: np.random.Generator) -> SemanticIdTable:
    """Three uniform codes and a de-duplicating one, in random order of items."""
    keys = np.sort(random.integers(0, CODES**3, items))
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    copies = np.arange(items) - np.repeat(first, np.diff(np.append(first, items)))
    codes = np.stack([keys // CODES**2, keys // CODES % CODES, keys % CODES, copies], axis=1).astype(np.int32)
    return SemanticIdTable(random.permutation(codes), (CODES, CODES, CODES, int(copies.max()) + 1))


def measure_changes(trie: Trie, changes: int, random: np.random.Generator) -> dict[str, float]:
    """Microseconds of CPU time to take one item out, and to put it back."""
    items = random.choice(trie.known_items, min(changes, trie.known_items), replace=False).tolist()
    paths = [trie.path_of(item) for item in items]
    _, removing = timed(lambda: [trie.remove(item) for item in items])
    _, inserting = timed(lambda: [trie.insert(item, path) for item, path in zip(items, paths, strict=True)])
    return {"remove_us": microseconds(removing, len(items)), "insert_us": microseconds(inserting, len(items))}


def measure_files(trie: Trie) -> dict[str, float]:
    """Seconds to save, to load with and without comparing checksums, and the file's bytes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.trie"
        _, saving = timed(lambda: save_trie(file, trie))
        _, checked = timed(lambda: load_trie(file))
        _, unchecked = timed(lambda: load_trie(file, verify=False))
        size = file.stat().st_blocks * 512
    return {
        "save_cpu_seconds": round(saving, 3),
        "load_cpu_seconds": round(checked, 4),
        "load_unchecked_cpu_seconds": round(unchecked, 4),
        "file_mb": round(size / 1e6, 1),
    }


def walk(view: TrieSnapshot, width: int, admission: Admission | None, random: np.random.Generator) -> list[Step]:
    """The steps of one row's search, with random log-probabilities in place of a model's."""
    beams, steps = Beams.at_root(np.ones(1, dtype=np.bool_)), []
    for level, size in enumerate(view.layout.sizes):
        log_probs = random.normal(size=(beams.starts.size, size)).astype(np.float32)
        found = expand(view, level, beams, log_probs, admission)
        values, positions = select_top(torch.from_numpy(found.scores), width, by_position)
        rows, columns = np.nonzero(values > -np.inf)
        chosen = found.at(rows, positions[rows, columns])
        steps.append(Step(level, beams, log_probs, found, chosen))
        starts, stops = lead(view, beams, found, chosen)
        codes = np.zeros((1, len(starts), level + 1), dtype=np.int64)
        beams = Beams(starts[None], stops[None], codes, values[rows, columns][None])
    return steps


class Indifferent:
    """A policy to whom all codes are alike, so that a search costs nothing but itself."""

    def step_log_probs(self, state: Tensor, prefixes: Tensor, origins: Tensor, codes: Tensor) -> Tensor:
        return torch.zeros(len(codes))


def measure_steps(
    view: TrieSnapshot,
    width: int,
    exclusions: Exclusions | None,
    filters: list[ItemFilter],
    repeats: int,
) -> dict[str, Any]:
    """Microseconds of CPU time a request: to prepare its filters, and a step for the constraint and for the selection.

    The constraint is finding the legal codes, adding up their scores and finding where the chosen ones lead; these in
    NumPy. `search_us` is a whole search by compiled code, its preparations and a call of Python a step included.
    """

    def make() -> Admission | None:
        return None if exclusions is None else Admission(view, 1, exclusions, filters)

    admission = make()
    constraint, selection = [], []
    for one in walk(view, width, admission, np.random.default_rng(0)):
        constraint.append(repeated(partial(_constrain, view, one, admission), repeats))
        selection.append(repeated(partial(select_top, torch.from_numpy(one.found.scores), width, by_position), repeats))
    widths, policy = np.array([width]), cast(Policy, Indifferent())

    def search() -> None:
        CompiledSearch(view, widths, widths, exclusions, filters, False).run(policy, torch.zeros(1, 1), None)

    return {
        "prepare_us": microseconds(repeated(make, repeats), 1),
        "constraint_us_by_level": [microseconds(one, 1) for one in constraint],
        "constraint_us_a_step": microseconds(sum(constraint) / len(constraint), 1),
        "selection_us_a_step": microseconds(sum(selection) / len(selection), 1),
        "search_us": microseconds(repeated(search, repeats), 1) if is_compiled() else None,
    }


def _constrain(view: TrieSnapshot, one: Step, admission: Admission | None) -> None:
    found = expand(view, one.level, one.beams, one.log_probs, admission)
    lead(view, one.beams, found, one.chosen)


def measure_filters(view: TrieSnapshot, width: int, excluded: int, repeats: int) -> dict[str, Any]:
    """Steps without filters, with items excluded, and with a filter besides that keeps half the catalogue."""
    random = np.random.default_rng(1)
    items = random.choice(view.known_items, min(excluded, view.known_items // 4), replace=False)
    rows = np.zeros(len(items), dtype=np.int64)
    half = ItemFilter.of_mask(random.random(view.known_items) < 0.5)

    excluding = Exclusions.of_pairs(view, rows, items)
    _, first = timed(lambda: Admission(view, 1, excluding, [half]))
    return {
        "none": measure_steps(view, width, None, [], repeats),
        "excluded": measure_steps(view, width, excluding, [], repeats),
        "excluded_and_half": measure_steps(view, width, excluding, [half], repeats)
        | {"first_use_of_half_us": microseconds(first, 1)},
    }


def measure(items: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one catalogue."""
    random = np.random.default_rng(arguments.seed)
    table = make_table(items, random)
    trie, building = timed(partial(Trie.from_table, table))
    found: dict[str, Any] = {"build_cpu_seconds": round(building, 3), "memory_mb": round(trie.bytes / 1e6, 1)}
    found["sizes"] = trie.codebook_sizes
    del table
    found |= measure_changes(trie, arguments.changes, random) | measure_files(trie)
    view = trie.snapshot()
    found["beams"] = {
        str(width): measure_filters(view, width, arguments.excluded, arguments.repeats) for width in arguments.beams
    }
    return found


def repeated(work: Callable[[], object], repeats: int) -> float:
    """Seconds of CPU time a call, in the least disturbed of five rounds of calls."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(repeats):
            work()
        rounds.append((time.process_time() - started) / repeats)
    return min(rounds)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def microseconds(seconds: float, calls: int) -> float:
    return round(1e6 * seconds / calls, 2)


def main() -> None:
    """Parse the arguments, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--beams", type=int, nargs="*", default=[10, 50, 200, 1000])
    parser.add_argument("--excluded", type=int, default=300, help="items that a row must not be given")
    parser.add_argument("--changes", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for items in arguments.items:
        found[str(items)] = measure(items, arguments)
        print(items, json.dumps(found[str(items)]), file=sys.stderr)
    settings = {name: getattr(arguments, name) for name in ("excluded", "changes", "repeats", "seed")}
    print(json.dumps({"benchmark": "trie", **settings, "catalogues": found}))


if __name__ == "__main__":
    main()
