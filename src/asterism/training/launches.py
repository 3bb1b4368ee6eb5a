"""Which launches on several processes the loops can work under."""

from __future__ import annotations

import os

from asterism.core.errors import TrainingError

#: What `accelerate launch` tells its processes, whether or not their devices can follow.
_CUTTING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def check_whole_weights() -> None:
    """Raise `TrainingError` in a process whose launcher would cut the weights into parts.

    Validation, roll-outs and averages of weights ask for parts of a model in an order of their own, outside the
    `forward` before which a launcher puts weights together.
    """
    for variable, name in _CUTTING.items():
        if os.environ.get(variable, "false").lower() == "true":
            raise TrainingError(
                f"this launch is for {name}, which cuts weights into parts, and validation and bundles need them whole "
                "in each process; use configs/distributed/ddp.yaml"
            )
