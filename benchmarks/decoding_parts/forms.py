"""The engine's forms at one batch size, beside the eager model and a floor of matrix products alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from asterism.decoding.state_cache import CacheLimits, StateCache
from asterism.models.policy import HistoryBatch, Policy
from asterism.models.ugt import UGT
from asterism.models.ugt.inference import InferenceUGT
from decoding_parts.rounds import Work
from decoding_parts.world import World

CACHE_BYTES = 1 << 28


def eager_forms(world: World, batch: int) -> dict[str, Work]:
    """The model as it is trained, in fp32 and under torch's own bf16."""
    return {
        "reference fp32": full_requests(world, world.model, batch),
        "reference bf16": full_requests(world, autocast(world.model), batch),
    }


def inference_forms(world: World, batch: int) -> dict[str, Work]:
    """The precisions that a user would choose from."""
    return {form: full_requests(world, InferenceUGT(world.model, form), batch) for form in ("fp32", "bf16")}


def all_forms(world: World, batch: int, rounds: int, calls: int) -> dict[str, Work]:
    """All that is compared at a batch size, by name; users return once in each call of each round."""
    policy = InferenceUGT(world.model, "bf16")
    halves = {f"bf16 {name}": work for name, work in parts(world, policy, batch).items()}
    times = (rounds + 1) * calls
    return {
        "products": product_floor(world, batch),
        **eager_forms(world, batch),
        **inference_forms(world, batch),
        **halves,
        "bf16 returning": returning(world, policy, batch, times, search=True),
        "bf16 repeating": repeating(world, policy, batch),
        "bf16 returning encode": returning(world, policy, batch, times, search=False),
        "int8": full_requests(world, InferenceUGT(world.model, "int8"), batch),
    }


def product_floor(world: World, batch: int) -> Work:
    """The matrix products of a request's model in bf16, and nothing else: no SiLU, no norm, no bias, no beam."""
    width, events, blocks = world.shape.width, world.shape.events, world.shape.blocks
    heads, tokens = world.shape.heads, batch * events
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


def returning(world: World, policy: InferenceUGT, batch: int, times: int, *, search: bool) -> Work:
    """Users who come back with one new event each time; a full window slides without ever being computed anew."""
    cache = StateCache(policy, CacheLimits(CACHE_BYTES, most_slides=1 << 40))
    events = world.shape.events
    histories = world.histories(batch, extra=times)
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


def window(histories: HistoryBatch, stop: int, events: int) -> HistoryBatch:
    """The newest events up to one."""
    columns = slice(stop - events, stop)
    return HistoryBatch(histories.items[:, columns], histories.timestamps[:, columns], histories.actions[:, columns])


def autocast(model: UGT) -> Policy:
    """The eager model with torch's own bf16."""

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
