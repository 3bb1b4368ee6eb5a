"""A TensorRT plan, run with torch's memory."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.core.errors import ModelError
from asterism.decoding.graph.columns import Feeds


class PlanSession:
    """Implements `agreement.Session`."""

    def __init__(self, file: Path) -> None:
        """Raise `ModelError` where the plan is of another TensorRT or another kind of GPU."""
        trt = importlib.import_module("tensorrt")
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))  # must outlive its engines
        self._engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        if self._engine is None:
            raise ModelError(f"{file} is no plan for this GPU and TensorRT {trt.__version__}; export it again here")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(place) for place in range(self._engine.num_io_tensors)]
        self._outputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
        self._numpy = trt.nptype

    def run(self, outputs: list[str], feeds: Feeds) -> list[NDArray[Any]]:
        """Copy the inputs to the GPU, run, and copy outputs back; raises `ModelError` beyond the plan's shapes."""
        held = {name: torch.from_numpy(np.ascontiguousarray(value)).cuda() for name, value in feeds.items()}
        for name, value in held.items():
            if not self._context.set_input_shape(name, tuple(value.shape)):
                raise ModelError(f"the plan takes no input {name!r} of shape {tuple(value.shape)}; export it wider")
            self._context.set_tensor_address(name, value.data_ptr())
        for name in self._outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            kind = torch.from_numpy(np.empty(0, self._numpy(self._engine.get_tensor_dtype(name)))).dtype
            held[name] = torch.empty(shape, dtype=kind, device="cuda")
            self._context.set_tensor_address(name, held[name].data_ptr())
        stream = torch.cuda.current_stream()
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise ModelError("TensorRT could not run the plan; its log says why")
        stream.synchronize()
        return [held[name].cpu().numpy() for name in outputs]
