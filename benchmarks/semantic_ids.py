"""Semantic ids at scale and beside faiss and vector-quantize-pytorch: seconds, memory, error left; one JSON line last.

    python benchmarks/semantic_ids.py [--only scale mixture beauty rq-vae] [--items N] [--seeds N] [--threads N]

scale     rq-kmeans and balanced-rq-kmeans on --items × --width vectors of a mixture
mixture   rq-kmeans beside its peers at equal bits, on --mixture-items × 256 vectors of a mixture
beauty    rq-kmeans and balanced-rq-kmeans beside the peers, on the item vectors of configs/beauty.toml
rq-vae    rq-vae on the same item vectors

Every fit has a process of its own, so that its peak memory is its own; libraries are loaded and vectors made before
the clock starts, and their memory counts. Methods take turns within a seed, so that a busy machine disturbs all
alike. The error left is the squared error of what the codes stand for ÷ the variance.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SECTIONS = ("scale", "mixture", "beauty", "rq-vae")
MIXTURE_WIDTH = 256
LEVELS = 3
CHUNK_ROWS = 16_384
PEERS = {
    "faiss beam 1": "faiss",
    "faiss beam 5": "faiss",
    "vector-quantize-pytorch": "vector_quantize_pytorch",
}
PEER_EPOCHS, PEER_BATCH_ROWS = 20, 1024  # of vector-quantize-pytorch

Vectors = NDArray[np.float32]


class Fitted(NamedTuple):
    """A method after its fit: how rows get codes, and what codes stand for."""

    assign: Callable[[Vectors], NDArray[Any]]
    reconstruct: Callable[[NDArray[Any]], Vectors]


def mixture(rows: int, width: int, seed: int) -> Vectors:
    """Rows around 20 subclusters of each of 200 clusters of unequal size, with noise."""
    random = np.random.default_rng(seed)
    clusters = random.standard_normal((200, width), dtype=np.float32)
    subclusters = 0.6 * random.standard_normal((200, 20, width), dtype=np.float32)
    shares = random.lognormal(size=200)
    vectors = np.empty((rows, width), dtype=np.float32)
    for part in chunks(rows):
        size = len(vectors[part])
        picked, child = random.choice(200, size, p=shares / shares.sum()), random.integers(0, 20, size)
        noise = random.standard_normal((size, width), dtype=np.float32)
        vectors[part] = clusters[picked] + subclusters[picked, child] + 0.5 * noise
    return vectors


def beauty_vectors(output: Path) -> None:
    """Write the item vectors that `asterism train --config configs/beauty.toml` makes codes of."""
    from asterism.config import load_run_config
    from asterism.data.locating import resolve_data
    from asterism.data.splits import split_dataset
    from asterism.embeddings import ItemEmbedder

    folder = Path(__file__).parents[1] / "configs"
    config = load_run_config(folder / "beauty.toml")
    dataset = resolve_data(config.data, folder)
    train = split_dataset(dataset, config.data).train
    np.save(output, ItemEmbedder.fit(dataset.items, train, config.embeddings, config.seed)[1])


def chunks(rows: int) -> Iterator[slice]:
    """Slices of all rows."""
    return (slice(start, start + CHUNK_ROWS) for start in range(0, rows, CHUNK_ROWS))


def fit_own(method: str, vectors: Vectors, codes: int, seed: int) -> Fitted:
    """One of the project's methods."""
    from asterism.config import SemanticIdConfig
    from asterism.semantic_ids import fit

    config = SemanticIdConfig.model_validate({"method": method, "codes": codes, "levels": LEVELS + 1})
    quantizer = fit(vectors, config, seed)
    return Fitted(quantizer.assign, quantizer.reconstruct)


def fit_faiss(beam: int, vectors: Vectors, codes: int, seed: int, threads: int) -> Fitted:
    """`faiss.ResidualQuantizer` with its own settings, but for the beam and the seed."""
    import faiss

    faiss.omp_set_num_threads(threads)
    quantizer = faiss.ResidualQuantizer(vectors.shape[1], LEVELS, codes.bit_length() - 1)
    quantizer.max_beam_size = beam
    quantizer.cp.seed += seed
    quantizer.train(vectors)
    return Fitted(quantizer.compute_codes, quantizer.decode)


def fit_peer_network(vectors: Vectors, codes: int, seed: int) -> Fitted:
    """`ResidualVQ`: k-means on a first batch, then moving averages over batches."""
    import torch
    from vector_quantize_pytorch import ResidualVQ

    torch.manual_seed(seed)
    quantizer = ResidualVQ(
        dim=vectors.shape[1], num_quantizers=LEVELS, codebook_size=codes, kmeans_init=True, kmeans_iters=10
    )
    rows = torch.from_numpy(vectors)
    with torch.no_grad():
        quantizer(rows[torch.randperm(len(rows))[: 128 * codes]])
        for epoch in range(PEER_EPOCHS):
            for batch in torch.randperm(len(rows)).split(PEER_BATCH_ROWS):
                quantizer(rows[batch])
            print(f"epoch {epoch + 1}/{PEER_EPOCHS}", end="\r", file=sys.stderr)
    quantizer.eval()

    def assign(some: Vectors) -> NDArray[Any]:
        with torch.no_grad():
            return np.concatenate([quantizer(torch.from_numpy(some[part]))[1].numpy() for part in chunks(len(some))])

    return Fitted(assign, lambda found: quantizer.get_output_from_indices(torch.from_numpy(found)).detach().numpy())


def fit_named(name: str, vectors: Vectors, codes: int, seed: int, threads: int) -> Fitted:
    """Fit the method of that name."""
    if name.startswith("faiss"):
        return fit_faiss(int(name.split()[-1]), vectors, codes, seed, threads)
    if name == "vector-quantize-pytorch":
        return fit_peer_network(vectors, codes, seed)
    return fit_own(name, vectors, codes, seed)


def quality(vectors: Vectors, found: NDArray[Any], fitted: Fitted) -> dict[str, Any]:
    """The error left and, where codes are columns, how large the largest clusters are and how many ids collide."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    left = spread = 0.0
    for part in chunks(len(vectors)):
        left += float(np.square((vectors[part] - fitted.reconstruct(found[part])).astype(np.float64)).sum())
        spread += float(np.square(vectors[part] - mean).sum())
    result: dict[str, Any] = {"error_left": round(left / spread, 5)}
    if found.dtype != np.uint8:  # faiss packs its codes
        counts = [np.unique(found[:, level], return_counts=True)[1] for level in range(LEVELS)]
        result["largest_over_mean"] = [round(float(one.max() / one.mean()), 3) for one in counts]
        result["collisions"] = round(1.0 - len(np.unique(found, axis=0)) / len(found), 4)
    return result


def run_once(name: str, source: str, arguments: argparse.Namespace) -> None:
    """Run in the fresh process: fit, assign, and print what both cost and gave."""
    import torch

    torch.set_num_threads(arguments.threads)
    if source.startswith("mixture:"):
        vectors = mixture(*map(int, source.split(":")[1:]), arguments.seed)
    else:
        vectors = np.load(source)
    importlib.import_module(PEERS.get(name, "asterism.semantic_ids"))
    cpu, wall = time.process_time(), time.perf_counter()
    fitted = fit_named(name, vectors, arguments.codes, arguments.seed, arguments.threads)
    fit_seconds = time.perf_counter() - wall
    found = fitted.assign(vectors)
    costs = {
        "seconds": round(time.perf_counter() - wall, 2),
        "fit_seconds": round(fit_seconds, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(costs | quality(vectors, found, fitted)))


def measure(name: str, source: str, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One method on one source, in a fresh process."""
    numbers = {"seed": seed, "threads": arguments.threads, "codes": arguments.codes}
    options = [part for key, value in numbers.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, __file__, "--once", name, source, *options]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result = {"method": name, "seed": seed, **json.loads(finished.stdout.splitlines()[-1])}
    shares = "/".join(f"{one:.2f}" for one in result.get("largest_over_mean", ()))
    print(
        f"{name:24} seed {seed}  {result['seconds']:8.1f} s  {result['cpu_seconds']:8.1f} CPU s  "
        f"{result['peak_rss_gb']:5.2f} GB  error {result['error_left']:.5f}  largest ÷ mean {shares or 'not known'}",
        flush=True,
    )
    return result


def run_section(section: str, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All rows of one section."""
    print(f"\n{section}", flush=True)
    methods = ["rq-vae"] if section == "rq-vae" else ["rq-kmeans"]
    if section in ("scale", "beauty"):
        methods.append("balanced-rq-kmeans")
    if section in ("mixture", "beauty"):
        methods += [peer for peer, package in PEERS.items() if importlib.util.find_spec(package)]
        for package in sorted(set(PEERS.values())):
            if importlib.util.find_spec(package) is None:
                print(f"{package} is not installed, so its rows are left out; the extra `bench` has it")
    if section in ("beauty", "rq-vae"):
        source = str(folder / "beauty.npy")
        if not Path(source).exists():
            subprocess.run([sys.executable, __file__, "--beauty", source], check=True)
    else:
        scale = section == "scale"
        rows, width = (arguments.items, arguments.width) if scale else (arguments.mixture_items, MIXTURE_WIDTH)
        source = f"mixture:{rows}:{width}"
    seeds = range(arguments.seed, arguments.seed + (1 if section == "scale" else arguments.seeds))
    return [measure(name, source, arguments, seed) for seed in seeds for name in methods]


def main() -> None:
    """Parse the arguments, measure the sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--mixture-items", type=int, default=100_000)
    parser.add_argument("--codes", type=int, default=256, help="a power of two")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="of all sections but scale")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--beauty", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        run_once(*arguments.once, arguments)
        return
    if arguments.beauty:
        beauty_vectors(arguments.beauty)
        return
    with tempfile.TemporaryDirectory() as name:
        report = {section: run_section(section, arguments, Path(name)) for section in arguments.only}
    settings = {key: getattr(arguments, key) for key in ("items", "width", "mixture_items", "codes", "threads")}
    print(json.dumps({"benchmark": "semantic_ids", **settings, **report}))


if __name__ == "__main__":
    main()
