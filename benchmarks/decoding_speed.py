"""Requests a second on one core at the reference shape, beside the reference code and a floor of products alone.

Rounds are interleaved and CPU time is taken, so that other jobs on the machine weigh on all alike. Ends with one JSON
line.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.config import ModelConfig
from asterism.core.memory import keep_freed_memory
from asterism.core.progress import track
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.beam import beam_search
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.state_cache import CacheLimits, StateCache
from asterism.decoding.trie import Trie
from asterism.models.policy import HistoryBatch, Policy
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.models.ugt.inference import InferenceUGT

CODES = 256
LEVELS = 3
CONTENT = 64
CACHE_BYTES = 1 << 28
Work = Callable[[], object]


class World:
    """A model of random weights, a catalogue and users whose histories grow by an event a round."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        random = np.random.default_rng(arguments.seed)
        torch.manual_seed(arguments.seed)
        self.arguments = arguments
        keys = random.choice(CODES**LEVELS, arguments.items, replace=False)
        codes = np.stack([keys // CODES**2, keys // CODES % CODES, keys % CODES], axis=1).astype(np.int32)
        config = ModelConfig(
            width=arguments.width, blocks=arguments.blocks, heads=arguments.heads, max_events=arguments.events
        )
        features = ItemFeatures(
            torch.from_numpy(codes).long(), (CODES,) * LEVELS, torch.randn(arguments.items, CONTENT)
        )
        self.model = UGT(features, UGTShape(config, temperature=0.07)).eval()
        with torch.no_grad():
            for one in self.model.parameters():
                one.add_(torch.randn_like(one) * 0.02)
        self.view: TrieSnapshot = Trie.from_table(SemanticIdTable(codes, (CODES,) * LEVELS)).snapshot()
        self._random = random

    def histories(self, users: int, extra: int = 0) -> HistoryBatch:
        """As many events as the model reads of each user, and `extra` more."""
        shape = (users, self.arguments.events + extra)
        items = torch.from_numpy(self._random.integers(0, self.arguments.items, shape))
        gaps = np.exp(self._random.uniform(0, np.log(10**6), shape)).astype(np.int64)
        return HistoryBatch(items, torch.from_numpy(10**9 + gaps.cumsum(axis=1)), torch.zeros_like(items))

    def calls(self, batch: int) -> int:
        """In a round: as many requests at every batch size, or a single one would always meet cold caches."""
        return int(max(1, self.arguments.requests // batch))

    def search(self, policy: Policy, states: torch.Tensor) -> object:
        """The constrained beam, all levels."""
        return beam_search(policy, states, self.view, self.arguments.beam, self.arguments.beam)


def window(histories: HistoryBatch, stop: int, events: int) -> HistoryBatch:
    """The newest events up to one."""
    columns = slice(stop - events, stop)
    return HistoryBatch(histories.items[:, columns], histories.timestamps[:, columns], histories.actions[:, columns])


def product_floor(world: World, batch: int) -> Work:
    """The matrix products of a request's model in bf16, and nothing else: no SiLU, no norm, no bias, no beam."""
    width, events, blocks = world.arguments.width, world.arguments.events, world.arguments.blocks
    heads, tokens = world.arguments.heads, batch * events
    kind = torch.bfloat16
    states, expand = torch.randn(tokens, width, dtype=kind), torch.randn(4 * width, width, dtype=kind)
    contract, half = expand[:width].contiguous(), expand[: 2 * width].contiguous()
    queries = torch.randn(batch * heads, events, width // heads, dtype=kind)
    scores = torch.randn(batch * heads, events, events, dtype=kind)
    nodes = torch.randn(len(world.model.decoder.tree.level(1)), width, dtype=kind)
    asked = torch.randn(batch, width, dtype=kind)

    def work() -> None:
        for _ in range(blocks - 1):
            torch.nn.functional.linear(states, expand)
            torch.bmm(queries, queries.transpose(1, 2))
            torch.bmm(scores, queries)
            torch.nn.functional.linear(states, contract)
        torch.nn.functional.linear(states, half)
        torch.nn.functional.linear(asked, expand)
        torch.mm(nodes, asked.T)

    return work


def full_requests(world: World, policy: Policy, batch: int) -> Work:
    """Encode, then search."""
    histories = world.histories(batch)
    return lambda: world.search(policy, policy.encode(histories))


def parts(world: World, policy: Policy, batch: int) -> dict[str, Work]:
    """The two halves of a request."""
    histories = world.histories(batch)
    states = policy.encode(histories)
    return {"encode": lambda: policy.encode(histories), "search": lambda: world.search(policy, states)}


def returning(world: World, policy: InferenceUGT, batch: int, *, search: bool) -> Work:
    """Users who come back with one new event each time; a full window slides without ever being computed anew."""
    cache = StateCache(policy, CacheLimits(CACHE_BYTES, most_slides=1 << 40))
    events = world.arguments.events
    histories = world.histories(batch, extra=(world.arguments.rounds + 1) * world.calls(batch))
    keys = [str(user) for user in range(batch)]
    stops: Iterator[int] = iter(range(events, histories.items.shape[1]))

    def work() -> object:
        states = cache.encode(window(histories, next(stops), events), keys)
        return world.search(policy, states) if search else states

    return work


def repeating(world: World, policy: InferenceUGT, batch: int) -> Work:
    """Users who come back with nothing new."""
    cache = StateCache(policy, CacheLimits(CACHE_BYTES))
    histories, keys = world.histories(batch), [str(user) for user in range(batch)]
    return lambda: world.search(policy, cache.encode(histories, keys))


def autocast(model: UGT) -> Policy:
    """The reference code with torch's own bf16."""

    class Cast:
        codebook_sizes, max_events = model.codebook_sizes, model.max_events
        item_scores = model.item_scores

        def encode(self, histories: HistoryBatch) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return model.encode(histories).float()

        def next_code_log_probs(self, state: torch.Tensor, prefixes: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return model.next_code_log_probs(state, prefixes)

    return Cast()


def works(world: World, batch: int) -> dict[str, Work]:
    """All that is compared at a batch size, by name."""
    found = {"products": product_floor(world, batch)}
    found["reference fp32"] = full_requests(world, world.model, batch)
    found["reference bf16"] = full_requests(world, autocast(world.model), batch)
    for precision in ("fp32", "bf16", "int8"):
        policy = InferenceUGT(world.model, precision)
        found[precision] = full_requests(world, policy, batch)
        if precision == "bf16":
            found |= {f"bf16 {name}": work for name, work in parts(world, policy, batch).items()}
            found["bf16 returning"] = returning(world, policy, batch, search=True)
            found["bf16 repeating"] = repeating(world, policy, batch)
            found["bf16 returning encode"] = returning(world, policy, batch, search=False)
    return found


@torch.inference_mode()
def measure(world: World, batch: int) -> dict[str, dict[str, float]]:
    """Microseconds of CPU time a request, medians and least of interleaved rounds, and requests a second of both."""
    compared = works(world, batch)
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    calls = world.calls(batch)
    gc.disable()  # a collection would be put down to whatever runs when it comes
    for number in track(range(world.arguments.rounds + 1), f"batch {batch}"):
        for name, work in compared.items():
            started = time.thread_time()
            for _ in range(calls):
                work()
            if number:  # the first round warms up
                seconds[name].append((time.thread_time() - started) / calls / batch)
    return {name: summary(np.array(taken)) for name, taken in seconds.items()}


def summary(seconds: NDArray[np.float64]) -> dict[str, float]:
    middle, least = statistics.median(seconds.tolist()), float(seconds.min())
    return {
        "median_us": round(1e6 * middle, 1),
        "least_us": round(1e6 * least, 1),
        "requests_a_second": round(1 / middle),
        "at_best": round(1 / least),
    }


def main() -> None:
    """Parse the arguments, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"width": 128, "blocks": 4, "heads": 2, "events": 50, "beam": 20, "items": 20_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batches", type=int, nargs="*", default=[32, 8, 1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=128, help="in a round")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    world = World(arguments)
    found: dict[str, Any] = {}
    for batch in arguments.batches:
        found[str(batch)] = measure(world, batch)
        for name, figures in found[str(batch)].items():
            print(f"batch {batch:3d}  {name:24s} {json.dumps(figures)}", file=sys.stderr)
    print(json.dumps({"benchmark": "decoding_speed", "threads": 1, **vars(arguments), "by_batch": found}))


if __name__ == "__main__":
    main()
