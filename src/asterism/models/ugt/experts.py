"""The feed-forward layer of a block: one network, or several of which each token asks a few."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asterism.models.ugt.dropout import Dropout
from asterism.models.ugt.group_norm import normalise, token_norm

_HIDDEN_WIDTHS = 2  # of a network's hidden layer, in widths of the state


class FeedForward(nn.Module):
    """X + FFN(Norm(X)), with one network or with a routed mixture of them."""

    def __init__(self, width: int, experts: int, top_k: int, token_groups: int, dropout: float) -> None:
        super().__init__()
        self.norm = token_norm(token_groups, width)
        self.mixture = MixtureOfExperts(width, experts, top_k, dropout) if experts > 1 else None
        self.network = _network(width, dropout) if experts == 1 else None
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, groups: Tensor) -> Tensor:
        """(N, D) states of flat tokens, (N,) groups → (N, D)."""
        network = self.network if self.mixture is None else self.mixture
        assert network is not None
        kept: Tensor = self.dropout(network(normalise(self.norm, states, groups)))
        return states + kept


class Routing(NamedTuple):
    """Which experts each of N tokens asks."""

    probabilities: Tensor  # (N, n) of the router, over all experts
    experts: Tensor  # (N, k) long, the most probable ones
    gates: Tensor  # (N, k) the weights of their answers


class MixtureOfExperts(nn.Module):
    """y = Σ over the top k of gate_i · E_i(x) (Shazeer et al. 2017, equations 1 to 5, without the noise).

    Every token reaches all of its k experts, however full they are: nothing is dropped, and a batch answers as
    its tokens would alone. Gates sum to one for k > 1; for k = 1 the gate is the router's probability, or the
    router would learn nothing (Fedus et al. 2021, equation 2).
    """

    def __init__(self, width: int, experts: int, top_k: int, dropout: float) -> None:
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"a token cannot ask {top_k} of {experts} experts; choose 1 to {experts}")
        hidden = _HIDDEN_WIDTHS * width
        self.top_k = top_k
        self.router = nn.Linear(width, experts, bias=False)
        self.expand = nn.Parameter(torch.empty(experts, width, hidden).uniform_(-1, 1) / math.sqrt(width))
        self.expand_bias = nn.Parameter(torch.zeros(experts, 1, hidden))
        self.contract = nn.Parameter(torch.empty(experts, hidden, width).uniform_(-1, 1) / math.sqrt(hidden))
        self.contract_bias = nn.Parameter(torch.zeros(experts, 1, width))
        self.dropout = Dropout(dropout)
        self.imbalance: Tensor | None = None  # of the last tokens seen in training

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, D) tokens → (N, D)."""
        routing = self.route(tokens)
        self.imbalance = load_imbalance(routing) if self.training else None
        answers = self._ask(tokens, routing.experts)
        return (answers * routing.gates[:, :, None].to(answers.dtype)).sum(dim=1)

    def route(self, tokens: Tensor) -> Routing:
        """(N, D) tokens → their experts; of equal probabilities the expert with the lower number wins."""
        probabilities = torch.softmax(self.router(tokens).float(), dim=-1)
        ranked = probabilities.sort(dim=-1, descending=True, stable=True)
        gates, experts = ranked.values[:, : self.top_k], ranked.indices[:, : self.top_k]
        if self.top_k > 1:
            gates = gates / gates.sum(dim=-1, keepdim=True)
        return Routing(probabilities, experts, gates)

    def _ask(self, tokens: Tensor, experts: Tensor) -> Tensor:
        """(N, D) tokens and their experts (N, k) → (N, k, D) answers.

        Questions are sorted by expert into buckets as deep as the fullest one, and one batched product answers all.
        """
        asked = experts.flatten()
        counts = torch.bincount(asked, minlength=len(self.expand))
        depth = max(1, int(counts.max()))
        order = asked.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device)
        place = asked * depth + rank - (counts.cumsum(0) - counts)[asked]
        width = tokens.shape[-1]
        buckets = tokens.new_zeros(len(counts) * depth, width)
        buckets[place] = tokens.repeat_interleave(self.top_k, dim=0)
        answers = self._networks(buckets.view(len(counts), depth, width))
        return answers.flatten(0, 1)[place].view(len(tokens), self.top_k, width)

    def _networks(self, buckets: Tensor) -> Tensor:
        hidden = self.dropout(functional.silu(torch.baddbmm(self.expand_bias, buckets, self.expand)))
        return torch.baddbmm(self.contract_bias, hidden, self.contract)


def load_imbalance(routing: Routing) -> Tensor:
    """n · Σ_i f_i P_i: 1 where experts share the load evenly, n where one of them has it all.

    f_i is the share of questions that expert i gets, P_i its mean probability (Fedus et al. 2021, "Switch
    Transformers", equations 4 to 6 without α; for k > 1 a token's k questions count alike).
    """
    count = routing.probabilities.shape[-1]
    questions = torch.bincount(routing.experts.flatten(), minlength=count)
    shares = questions / questions.sum().clamp(min=1)
    means = routing.probabilities.sum(dim=0) / max(1, len(routing.probabilities))
    return count * (shares * means).sum()


def _network(width: int, dropout: float) -> nn.Sequential:
    hidden = _HIDDEN_WIDTHS * width
    return nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), Dropout(dropout), nn.Linear(hidden, width))
