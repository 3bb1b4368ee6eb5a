"""Scalar products of chosen pairs of rows, without copies of the rows."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def pair_products(queries: Tensor, vectors: Tensor, counts: Tensor, columns: Tensor) -> Tensor:
    """(P, D), (M, D), how many pairs each query has (P,), and their vectors (n,) query by query → (n,) products.

    A sampled product of matrices: in both passes nothing of the shape (n, D) is made.
    """
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    found: Tensor = _PairProducts.apply(queries.float(), vectors.float(), offsets, columns)  # type: ignore[no-untyped-call]
    return found


class _PairProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, vectors: Tensor, offsets: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(queries, vectors, offsets, columns)
        nothing = _sparse(offsets, columns, queries.new_zeros(len(columns)), len(vectors))
        found: Tensor = torch.sparse.sampled_addmm(nothing, queries, vectors.T, beta=0.0).values()
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, vectors, offsets, columns = ctx.saved_tensors
        of_queries = _sparse(offsets, columns, gradient, len(vectors)) @ vectors
        order = columns.argsort(stable=True)
        per_column = torch.bincount(columns, minlength=len(vectors))
        rows = torch.repeat_interleave(torch.arange(len(queries), device=columns.device), offsets.diff())
        turned = torch.nn.functional.pad(per_column.cumsum(0), (1, 0))
        of_vectors = _sparse(turned, rows[order], gradient[order], len(queries)) @ queries
        return of_queries, of_vectors, None, None


def _sparse(offsets: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """A matrix (rows, `width`) of compressed rows."""
    return torch.sparse_csr_tensor(offsets, columns, values, (len(offsets) - 1, width), check_invariants=False)


def _let_torch_warn() -> None:
    """Make the first compressed matrix of the process, with which torch says once that they are in beta state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _sparse(torch.zeros(2, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0), 1)


_let_torch_warn()  # here, since silencing warnings is neither cheap nor safe among threads
