"""Weights, gradients and moments cut over the processes of a launch, beside whole weights for whoever asks them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from asterism.training.course import Course
from asterism.training.launches import Cut

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedObjective:
    """A cut copy of a course's objective, which learns, and the course's own model, which is examined.

    Each process keeps its part of weights, gradients and moments, and puts a layer's weights together when it is
    computed (`layers`; Rajbhandari et al. 2020, ZeRO-3), or from the forward pass to the backward pass (`moments`;
    ZeRO-2). The course's model stays whole, so that validation may ask for any part of it in any order.
    """

    def __init__(self, course: Course, device: torch.device, cut: Cut) -> None:
        copies: dict[int, Any] = {}
        self.objective = copy.deepcopy(course.objective, copies).to(device)
        self._cut: nn.Module = copies[id(course.model)]
        self._whole = course.model.to(device)
        for one in (*self.objective.parameters(), *self.objective.buffers()):
            torch.distributed.broadcast(one.detach(), src=0)
        mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
        for layer in course.layers:
            fully_shard(copies[id(layer)], mesh=mesh, reshard_after_forward=cut == "layers")
        fully_shard(self.objective, mesh=mesh, reshard_after_forward=False)

    @property
    def cut(self) -> nn.Module:
        """The model that learns: of each tensor, this process' part."""
        return self._cut

    @torch.no_grad()
    def gather(self) -> None:
        """Give the whole model what its cut copy has learned; all processes must ask together."""
        learned = dict(self._cut.named_parameters())
        for name, one in self._whole.named_parameters():
            if one.requires_grad:
                one.copy_(whole(learned[name]))


class ShardedState:
    """What a checkpoint keeps of a cut objective and its optimiser: whole tensors, whichever process writes them."""

    def __init__(self, objective: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._objective, self._optimizer = objective, optimizer

    def state_dict(self) -> dict[str, Any]:
        """Weights and moments, whole in the main process; all must ask together."""
        weights, moments = get_state_dict(self._objective, self._optimizer, options=_WHOLE)
        return {"weights": weights, "moments": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process' part of what was written."""
        weights, moments = state["weights"], state["moments"]
        set_state_dict(
            self._objective, self._optimizer, model_state_dict=weights, optim_state_dict=moments, options=_WHOLE
        )


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its parts, where it is cut; all processes must ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor on the device of `pattern`, cut as that is."""
    there = tensor.to(pattern.device)
    if not isinstance(pattern, DTensor):
        return there
    return distribute_tensor(there, pattern.device_mesh, pattern.placements)
