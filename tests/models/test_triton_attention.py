"""The GPU kernel against the PyTorch path: on a GPU where there is one, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
pytest.importorskip("triton", reason="Triton is not installed; what it would compute is computed by PyTorch")

from asterism.models.ugt import attention
from asterism.models.ugt.attention import PointwiseAttentionBlock, RelativeBias, pointwise_attention
from asterism.models.ugt.jagged import Packing, causal_visibility, time_bucket
from asterism.models.ugt.triton_attention import BiasTables, fused_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [  # rows, heads, tokens, width of a head, prefix
    (2, 2, 5, 4, 0),
    (1, 1, 1, 16, 0),
    (3, 2, 33, 8, 0),
    (2, 3, 40, 24, 3),
    (1, 2, 70, 32, 1),
]


def make(
    shape: tuple[int, int, int, int, int], dtype: torch.dtype
) -> tuple[list[Tensor], RelativeBias, Tensor, Tensor]:
    rows, heads, tokens, width, prefix = shape
    random = torch.Generator().manual_seed(sum(shape))
    qkv = [torch.randn(rows, heads, tokens, width, generator=random).to(DEVICE, dtype) for _ in range(3)]
    bias = RelativeBias(heads, tokens - prefix, prefix)
    with torch.no_grad():
        for one in bias.parameters():
            one.copy_(torch.randn(one.shape, generator=random))
    gaps = torch.randint(0, 10**6, (rows, tokens), generator=random) // 10 ** torch.randint(
        0, 6, (rows, tokens), generator=random
    )
    present = torch.rand(rows, tokens, generator=random) < 0.8
    return qkv, bias.to(DEVICE), gaps.cumsum(1).to(DEVICE), present.to(DEVICE)


def both(shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> list[list[Tensor]]:
    """Outputs and gradients of q, k, v and the tables: of the kernel, then of the PyTorch path in fp32."""
    found = []
    for fused in (True, False):
        qkv, bias, times, present = make(shape, dtype)
        q, k, v = (one.requires_grad_() for one in (qkv if fused else [one.float() for one in qkv]))
        if fused:
            tables = BiasTables(bias.position, bias.time, bias.prefix)
            out = fused_attention(q, k, v, tables, times, present, 7.0)
        else:
            scores = bias(torch.arange(shape[2], device=DEVICE), time_bucket(times))
            out = pointwise_attention(q, k, v, scores, causal_visibility(present), 7.0)
        (out.float() * torch.linspace(-1, 1, out.numel(), device=DEVICE).view_as(out)).sum().backward()
        gradients = [one.grad.float() for one in (q, k, v, *bias.parameters()) if one.grad is not None]
        assert len(gradients) == 5 + (bias.prefix is not None)
        found.append([out.detach().float(), *gradients])
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_fp32_agrees_with_the_pytorch_path(shape: tuple[int, int, int, int, int]) -> None:
    kernel, reference = both(shape, torch.float32)
    for fast, slow in zip(kernel, reference, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES[2:4])
def test_bf16_agrees_with_fp32(shape: tuple[int, int, int, int, int]) -> None:
    kernel, reference = both(shape, torch.bfloat16)
    for fast, slow in zip(kernel, reference, strict=True):
        assert torch.nn.functional.cosine_similarity(fast.flatten(), slow.flatten(), dim=0) > 0.999
        torch.testing.assert_close(fast, slow, rtol=0.03, atol=0.03 * slow.abs().max().item())


def test_what_is_absent_or_later_is_not_read() -> None:
    qkv, bias, times, present = make((1, 2, 40, 8, 0), torch.float32)
    present[0, 3] = False
    tables = BiasTables(bias.position, bias.time, bias.prefix)
    before = fused_attention(*qkv, tables, times, present, 7.0)
    for changed in qkv[1:]:
        changed[0, :, 3] = 99.0
        changed[0, :, 35:] = -99.0
    after = fused_attention(*qkv, tables, times, present, 7.0)
    torch.testing.assert_close(before[:, :, :35], after[:, :, :35], rtol=0, atol=0)
    assert not torch.equal(before[:, :, 35:], after[:, :, 35:])


def test_a_block_hands_its_view_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding before the events, a prefix of which a token is absent, and the block's own tables."""
    torch.manual_seed(0)
    block = PointwiseAttentionBlock(width=8, heads=2, max_events=3, dropout=0.0, prefix=2).to(DEVICE)
    with torch.no_grad():
        for one in block.bias.parameters():
            one.normal_()
    times = torch.tensor([[5, 9, 0, 20, 90], [7, 0, 8, 30, 2000]], device=DEVICE)
    present = torch.tensor([[True, True, False, True, True], [True, False, True, True, True]], device=DEVICE)
    packing = Packing(times, present, present.flatten().nonzero()[:, 0], prefix=2)
    states, groups = torch.randn(8, 8, device=DEVICE), torch.zeros(8, dtype=torch.long, device=DEVICE)
    found = []
    for fused in (True, False):
        monkeypatch.setattr(attention, "kernel_for", lambda _, fused=fused: fused)
        found.append(block(states, packing.views(), groups))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_the_kernel_is_for_cuda_and_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(attention.KERNEL_VARIABLE, raising=False)
    queries = [torch.zeros(1)] + [torch.zeros(1, device="cuda")] * torch.cuda.is_available()
    assert not any(map(attention.kernel_for, queries))
    monkeypatch.setenv(attention.KERNEL_VARIABLE, "1")
    assert [attention.kernel_for(one) for one in queries] == [one.is_cuda for one in queries]
