"""The GPU kernel against the PyTorch path: on a GPU where there is one, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

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
        changed[0, :, 3] = 5.0
        changed[0, :, 35:] = -5.0
    after = fused_attention(*qkv, tables, times, present, 7.0)
    torch.testing.assert_close(before[:, :, :35], after[:, :, :35], rtol=0, atol=0)
    assert not torch.equal(before[:, :, 35:], after[:, :, 35:])


@pytest.mark.parametrize("half", [False, True])
def test_a_block_hands_its_view_to_the_kernel(monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
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
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
            found.append(block(states, packing.views(), groups))
    close = 0.02 if half else 1e-5
    torch.testing.assert_close(found[0], found[1], rtol=close, atol=close)


def test_the_kernel_is_for_cuda_and_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTensorMode():
        on_cpu, on_cuda = torch.empty(1), torch.empty(1, device="cuda")
    monkeypatch.delenv(attention.KERNEL_VARIABLE, raising=False)
    assert not attention.kernel_for(on_cuda)
    monkeypatch.setenv(attention.KERNEL_VARIABLE, "1")
    assert attention.kernel_for(on_cuda)
    assert not attention.kernel_for(on_cpu)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from asterism.models.ugt import triton_attention as kernels

for kernel in (kernels._attend, kernels._of_queries, kernels._of_keys):
    names = kernel.arg_names
    for scalar, precision in (("fp32", "ieee"), ("bf16", "tf32")):
        fixed = dict(D=32, WIDE=32, BLOCK=32, BUCKETS=32, PRECISION=precision, WIDEN=False)
        types = dict.fromkeys(("heads", "tokens", "places", "events", "prefix"), "i32") | {"share": "fp32"}
        types |= {"WHEN": "*i64", "HERE": "*i8"} | dict.fromkeys(("POSITION", "TIME", "DPOSITION", "DTIME"), "*fp32")
        signature = {name: "constexpr" if name in fixed else types.get(name, "*" + scalar) for name in names}
        source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in fixed.items()})
        print(kernel.__name__, scalar, len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]))
"""


def test_the_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """For compute capability 9.0; this needs no GPU."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    finished = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) == 6
