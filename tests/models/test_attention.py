"""The pointwise attention block against a loop that follows the paper line by line."""

import math

import torch
from torch.nn import functional

from asterism.models.ugt.attention import TIME_BUCKETS, PointwiseAttentionBlock
from asterism.models.ugt.jagged import Packing, causal_visibility, time_bucket


def slow_block(block: PointwiseAttentionBlock, states: torch.Tensor, times: list[int]) -> torch.Tensor:
    """One row without padding, one query, one key and one head at a time."""
    width = states.shape[-1]
    size = width // block.heads
    rows = []
    for query_at in range(len(states)):
        gate, _, query, _ = functional.silu(block.expand(block.norm(states[query_at]))).chunk(4)
        attended = torch.zeros(width)
        for head in range(block.heads):
            part = slice(head * size, (head + 1) * size)
            for key_at in range(query_at + 1):
                _, value, _, key = functional.silu(block.expand(block.norm(states[key_at]))).chunk(4)
                gap = times[query_at] - times[key_at]
                bias = (
                    block.bias.position[head, query_at - key_at]
                    + block.bias.time[head, min(int(math.log2(gap + 1)), TIME_BUCKETS - 1)]
                )
                weight = functional.silu(query[part] @ key[part] + bias) / block.max_events
                attended[part] = attended[part] + weight * value[part]
        rows.append(states[query_at] + block.contract(block.norm_attended(attended) * gate))
    return torch.stack(rows)


def test_block_agrees_with_its_slow_twin() -> None:
    torch.manual_seed(0)
    block = PointwiseAttentionBlock(width=8, heads=2, max_events=6, dropout=0.0)
    torch.nn.init.normal_(block.bias.position)
    torch.nn.init.normal_(block.bias.time)
    states = torch.randn(5, 8)
    times = [0, 3, 3, 90, 100_000]
    packing = Packing(torch.tensor([times]), torch.ones(1, 5, dtype=torch.bool), torch.arange(5), prefix=0)
    fast = block(states, packing.views(), torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(fast, slow_block(block, states, times))


def test_time_buckets_are_logarithmic() -> None:
    buckets = time_bucket(torch.tensor([[0, 1, 3, 7, 1_000_000]]))
    assert buckets[0, :, 0].tolist() == [0, 1, 2, 3, 19]
    assert buckets[0, 0].tolist() == [0, 0, 0, 0, 0], "a key after its query counts as no gap; the mask hides it anyway"


def test_visibility_is_causal_and_hides_padding() -> None:
    visible = causal_visibility(torch.tensor([[False, True, True]]))
    assert visible[0, 0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 1]]
