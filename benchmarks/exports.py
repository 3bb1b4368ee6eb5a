"""ONNX Runtime beside PyTorch on one thread: CPU time of a call, encoder and whole answer; one JSON line at the end."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import onnxruntime
import torch

from asterism.config import DecodingConfig, ModelConfig
from asterism.core.bundle import Bundle
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding import Generator
from asterism.decoding.exports.graphs import EXCLUDED
from asterism.decoding.exports.onnx_graph import onnx_model
from asterism.decoding.exports.samples import sample_histories
from asterism.decoding.graph.columns import columns_of
from asterism.decoding.graph.encoder import encode
from asterism.decoding.graph.over_catalogue import recommend_all_but
from asterism.decoding.graph.ports import Port, history_ports
from asterism.decoding.graph.search import Search
from asterism.decoding.graph.values import Graph
from asterism.decoding.history_heads import NO_HEADS, HistoryHeads
from asterism.decoding.loading import load_recommender
from asterism.decoding.recommendations import Mode
from asterism.models.policy import read_histories
from asterism.models.ugt import UGT, ItemFeatures, UGTShape

K = 10


class Subject(NamedTuple):
    """What is measured."""

    policy: UGT
    table: SemanticIdTable
    decoding: DecodingConfig
    heads: HistoryHeads
    histories: Sequences


def of_bundle(folder: Path) -> Subject:
    """A trained recommender and its users' histories."""
    trained = load_recommender(Bundle.open(folder))
    histories = sample_histories(trained, 201)
    kept = histories.take(np.arange(1, len(histories)))
    return Subject(trained.policy, trained.semantic_ids, trained.config.decoding, trained.generator.heads, kept)


def of_chance(items: int) -> Subject:
    """Initial weights, three levels of 256 uniform codes and one against collisions, no heads of the history."""
    random = np.random.default_rng(0)
    keys = np.sort(random.integers(0, 256**3, items))
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    copies = np.arange(items) - np.repeat(first, np.diff(np.append(first, items)))
    codes = np.stack([keys // 256**2, keys // 256 % 256, keys % 256, copies], axis=1)
    table = SemanticIdTable(random.permutation(codes), (256, 256, 256, int(copies.max()) + 1))
    torch.manual_seed(0)
    content = torch.randn(items, 256)
    features = ItemFeatures(torch.from_numpy(table.codes).long(), table.codebook_sizes, content)
    policy = UGT(features, UGTShape(ModelConfig(), 0.07)).eval()
    lengths = np.minimum(50, 3 + random.geometric(0.15, 200))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    seen = random.integers(0, items, offsets[-1]).astype(np.int32)
    times = np.arange(offsets[-1]) * 86_400
    histories = Sequences(offsets, seen, times, np.ones(offsets[-1], np.int8))
    return Subject(policy, table, DecodingConfig(), NO_HEADS, histories)


def session(subject: Subject, mode: Mode | None) -> onnxruntime.InferenceSession:
    """The encoder, or with a mode the whole answer."""
    graph, config = Graph("measured"), subject.policy.shape.model
    columns = {port.name: graph.input(port) for port in history_ports(config)}
    state = encode(graph, subject.policy, columns)
    if mode is None:
        width = config.width * (1 if subject.policy.pooling is None else 2)
        graph.output(Port("state", "float32", ("batch", width), ""), state)
    else:
        search = Search(K, mode, subject.decoding, subject.heads)
        found = recommend_all_but(graph, subject.policy, state, columns["items"], graph.input(EXCLUDED), search)
        graph.output(Port("recommended", "int64", ("batch", K), ""), found.items)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx_model(graph, {}).SerializeToString(), options)


def calls(subject: Subject, mode: Mode | None, batch: int) -> dict[str, Callable[[], Any]]:
    """The same call of both, on the first rows."""
    rows = subject.histories.take(np.arange(batch))
    run = session(subject, mode)

    def by_graph() -> Any:
        feeds = columns_of(rows, subject.policy.shape.model)
        if mode is not None:
            feeds["excluded"] = np.full((batch, 1), -1)
        return run.run(None, feeds)[0]

    if mode is None:

        def by_torch() -> Any:
            with torch.inference_mode():
                return subject.policy.encode(read_histories(subject.policy, rows)).numpy()

    else:
        generator = Generator(subject.policy, subject.table, subject.decoding, heads=subject.heads)

        def by_torch() -> Any:
            return generator.recommend(rows, K, code_log_probs=False, mode=mode).items

    return {"onnxruntime_ms": by_graph, "torch_ms": by_torch}


def measure(both: dict[str, Callable[[], Any]], repeats: int, rounds: int = 5) -> dict[str, float]:
    """Milliseconds of CPU time a call, the least disturbed of rounds that alternate between the two."""
    best: dict[str, float] = {}
    for one in both.values():
        one()
    for _ in range(rounds):
        for name, call in both.items():
            start = time.process_time()
            for _ in range(repeats):
                call()
            spent = (time.process_time() - start) / repeats * 1e3
            best[name] = min(best.get(name, spent), spent)
    found = {name: round(spent, 3) for name, spent in best.items()}
    return {**found, "ratio": round(best["torch_ms"] / best["onnxruntime_ms"], 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="a trained bundle instead of chance")
    parser.add_argument("--items", type=int, default=10_000, help="of the catalogue of chance")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--repeats", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    subject = of_chance(asked.items) if asked.bundle is None else of_bundle(asked.bundle)
    modes: list[Mode | None] = [None, *get_args(Mode)]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for mode in modes:
        name = mode or "encoder"
        for batch in asked.batches:
            both = calls(subject, mode, batch)
            same = np.isclose(both["onnxruntime_ms"](), both["torch_ms"](), rtol=1e-3, atol=1e-4).mean()
            found = measure(both, asked.repeats)
            results.setdefault(name, {})[str(batch)] = {**found, "same": round(float(same), 4)}
            print(f"{name}, batch {batch}: {results[name][str(batch)]}", file=sys.stderr)
    print(json.dumps({"benchmark": "exports", "items": len(subject.table), "results": results}))


if __name__ == "__main__":
    main()
