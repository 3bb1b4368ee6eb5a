"""What a launch on several processes asks of the weights: to be whole in each of them, or cut over all."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from asterism.core.errors import TrainingError

#: `layers`: each layer's weights are put together when it is computed; `moments`: they stay so until it has learned.
Cut = Literal["layers", "moments"]

#: What `accelerate launch` tells its processes, whether or not their devices can follow.
_FSDP, _RESHARD, _STRATEGY = "ACCELERATE_USE_FSDP", "FSDP_RESHARD_AFTER_FORWARD", "FSDP_SHARDING_STRATEGY"
_REFUSED = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}


def wanted_cut() -> Cut | None:
    """How the launch wants weights cut; None where each process shall hold them whole.

    Raises `TrainingError` where it is for an engine of its own, which would replace the loops.
    """
    for variable, name in _REFUSED.items():
        if _is_true(variable):
            raise TrainingError(
                f"this launch is for {name}, whose engine would replace the loop; use configs/distributed/zero3.yaml, "
                "which cuts weights, gradients and moments, zero2.yaml, or ddp.yaml, which keeps them whole"
            )
    if not _is_true(_FSDP):
        return None
    kept = os.environ.get(_RESHARD, "true").lower() == "false" or os.environ.get(_STRATEGY) == "SHARD_GRAD_OP"
    return "moments" if kept else "layers"


@contextmanager
def cutting_left_to_us() -> Iterator[None]:
    """Hide the wish from `accelerate`, which fulfils it on some devices only, and for one `forward` alone."""
    wish = os.environ.pop(_FSDP, None)
    try:
        yield
    finally:
        if wish is not None:
            os.environ[_FSDP] = wish


def leave() -> None:
    """End this process with status 0 where it is one of several that were launched; alone, go on.

    All that was asked of it must be done. A process of a group that takes itself apart is aborted now and then by a
    thread of torch's that outlives the interpreter, and its launcher then ends the others, whatever they are doing.
    """
    if not torch.distributed.is_initialized():
        return
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"
