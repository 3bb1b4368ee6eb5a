"""Ids for later items, one and many at a time, and how many ids survive a refit; one JSON line at the end."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.semantic_ids import (
    UNKNOWN,
    Codebooks,
    Quantizer,
    SemanticIdRegister,
    build_semantic_ids,
    code_changes,
    fit,
    read_vectors,
    unique_table,
)
from asterism.semantic_ids.autoencoder import Autoencoder, Mlp
from asterism.semantic_ids.relabelling import matching_names

LEVELS = 3  # without the de-duplication level
LATENT_WIDTH, HIDDEN_WIDTHS = 192, (512,)  # of an RQ-VAE
ADDED_SHARE = 0.05  # of the items, in the refit with more of them
NOISE = 0.15  # of each column's deviation, in the refit with other vectors

Vectors = NDArray[np.float32]
Result = TypeVar("Result")


def make_quantizers(width: int, codes: int, random: np.random.Generator) -> dict[str, Quantizer]:
    """Quantisers of the right shapes; their cost does not depend on what they were fitted on."""

    def levels(columns: int) -> tuple[Vectors, ...]:
        return tuple((random.normal(size=(codes, columns)) * 0.7**level).astype(np.float32) for level in range(LEVELS))

    prices = tuple(random.uniform(size=codes).astype(np.float32) for _ in range(LEVELS))
    generator = torch.Generator().manual_seed(0)
    latent = min(LATENT_WIDTH, width)
    encoder = Mlp(torch.eye(latent, width), HIDDEN_WIDTHS, generator)
    decoder = Mlp(torch.eye(width, latent), HIDDEN_WIDTHS, generator)
    plain = Codebooks(levels(width))
    return {
        "rq-kmeans": plain,
        "balanced-rq-kmeans": Codebooks(plain.centroids, prices),
        "rq-vae": Autoencoder(encoder, decoder, Codebooks(levels(latent)), np.zeros(width, np.float32), 1.0),
    }


def measure_new_items(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds for one item and seconds for a batch, by size of table and method."""
    random = np.random.default_rng(arguments.seed)
    quantizers = make_quantizers(arguments.width, arguments.codes, random)
    found: dict[str, Any] = {}
    for size in arguments.tables:
        paths = random.integers(0, arguments.codes, size=(size, LEVELS)).astype(np.int32)
        table, table_seconds = timed(lambda paths=paths: unique_table(paths, arguments.codes))
        found[str(size)] = {"table_cpu_seconds": table_seconds}
        for method, quantizer in quantizers.items():
            register, seconds = timed(lambda table=table, one=quantizer: SemanticIdRegister(table, one))
            vectors = random.normal(size=(arguments.items + arguments.batch, arguments.width)).astype(np.float32)
            singles, batch = vectors[: arguments.items], vectors[arguments.items :]
            latencies = measure_singles(register, singles)
            _, batch_seconds = timed(lambda register=register, batch=batch: register.assign(batch))
            timings = {"register_cpu_seconds": seconds, **latencies, "batch_cpu_seconds": batch_seconds}
            found[str(size)][method] = timings
    return found


def measure_singles(register: SemanticIdRegister, vectors: Vectors) -> dict[str, float]:
    """Percentiles over items that come one at a time, from vector to id."""
    wall, cpu = [], []
    for row in range(len(vectors)):
        started = time.perf_counter(), time.thread_time()
        register.assign(vectors[row : row + 1])
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.thread_time() - started[1])
    return {
        f"{name}_p{share}_ms": round(1000 * float(np.percentile(seconds, share)), 3)
        for name, seconds in (("one_item", wall), ("one_item_cpu", cpu))
        for share in (50, 99)
    }


def measure_stability(vectors: Vectors, method: str, codes: int, seed: int) -> dict[str, Any]:
    """Shares of items with another first code after three kinds of refit: anew, renamed, and with the earlier ids."""
    config = SemanticIdConfig.model_validate({"method": method, "codes": codes})
    random = np.random.default_rng(seed)
    old = np.sort(random.permutation(len(vectors))[: round(len(vectors) / (1 + ADDED_SHARE))])
    turn = np.linalg.qr(random.normal(size=(vectors.shape[1],) * 2))[0]
    noise = random.normal(size=vectors.shape) * vectors.std(axis=0) * NOISE
    other = ((vectors + noise) @ turn).astype(np.float32)
    all_rows = np.arange(len(vectors))
    found = {}
    refits = {
        "other_seed": (all_rows, vectors),
        "more_items": (old, vectors),
        "other_vectors": (all_rows, other),
    }
    for name, (rows, later) in refits.items():
        before, _ = build_semantic_ids(vectors[rows], config, seed)
        earlier = np.full((len(vectors), before.levels), UNKNOWN, dtype=np.int32)
        earlier[rows] = before.codes
        found[name] = compare_refits(later, config, seed + 1, earlier)
    return found


def compare_refits(vectors: Vectors, config: SemanticIdConfig, seed: int, earlier: NDArray[np.int32]) -> dict[str, Any]:
    """First codes, first two codes and ids that change, and the error that the codes leave."""
    anew = fit(vectors, config, seed)
    paths = anew.assign(vectors)
    renamed = anew.relabelled(matching_names(paths, earlier, anew.sizes))
    table, quantizer = build_semantic_ids(vectors, config, seed, earlier)
    ids = {
        "anew": unique_table(paths, config.codes),
        "renamed": unique_table(renamed.assign(vectors), config.codes, earlier),
        "like": table,
    }
    changes = {name: code_changes(earlier, one.codes) for name, one in ids.items()}
    shares = {
        name: {part: round(getattr(one, part), 4) for part in ("first", "first_two", "any")}
        for name, one in changes.items()
    }
    return {**shares, "error_anew": relative_error(anew, vectors), "error_like": relative_error(quantizer, vectors)}


def relative_error(quantizer: Quantizer, vectors: Vectors) -> float:
    left = np.square(vectors - quantizer.reconstruct(quantizer.assign(vectors))).sum()
    return round(float(left / np.square(vectors - vectors.mean(axis=0)).sum()), 4)


def make_tree(items: int, width: int, seed: int) -> Vectors:
    """Vectors in clusters of clusters, with noise."""
    random = np.random.default_rng(seed)
    top, leaf = random.integers(0, 32, items), random.integers(0, 32, items)
    centres, branches = random.normal(size=(32, width)) * 2, random.normal(size=(32, width))
    return (centres[top] + branches[leaf] + random.normal(size=(items, width)) * 0.5).astype(np.float32)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.process_time()
    result = work()
    return result, round(time.process_time() - started, 3)


def main() -> None:
    """Parse the arguments, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, nargs="*", default=[12_101, 1_000_000], help="sizes of the table")
    parser.add_argument("--items", type=int, default=2000, help="that come one at a time")
    parser.add_argument("--batch", type=int, default=100_000, help="items that come together")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--methods", nargs="*", default=["rq-kmeans"], help="whose stability is measured")
    parser.add_argument("--vectors", type=Path, help="item vectors (.npy) for it; a synthetic tree without them")
    parser.add_argument("--tree-items", type=int, default=12_101)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    new_items = measure_new_items(arguments)
    print(json.dumps(new_items), file=sys.stderr)
    vectors = (
        read_vectors(arguments.vectors)
        if arguments.vectors
        else make_tree(arguments.tree_items, arguments.width, arguments.seed)
    )
    stability = {one: measure_stability(vectors, one, arguments.codes, arguments.seed) for one in arguments.methods}
    settings = {name: getattr(arguments, name) for name in ("items", "batch", "width", "codes", "seed")}
    source = {"vectors": arguments.vectors.name if arguments.vectors else "tree", "stability_items": len(vectors)}
    print(json.dumps({"benchmark": "new_items", **settings, "tables": new_items, **source, "stability": stability}))


if __name__ == "__main__":
    main()
