"""Work for a device that is told once and repeated: by CUDA as a graph, elsewhere by telling it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import torch

from asterism.core.errors import ConfigError

Work = Callable[[], None]

_WARM_UPS: Final = 2  # libraries choose kernels and take memory in the first runs, which must not be captured


class Recorder(Protocol):
    """How work is recorded on one device."""

    @property
    def device(self) -> torch.device:
        """Where the work runs."""
        ...

    @property
    def pins(self) -> bool:
        """Whether the device copies from pinned memory by itself."""
        ...

    def record(self, work: Work) -> Work:
        """What repeats `work`, which reads and writes tensors that stay where they are, and asks nothing of the host.

        It may be run several times meanwhile.
        """
        ...

    def wait(self) -> None:
        """Until all that was asked of the device is done."""
        ...


class Directly:
    """Implements `Recorder` for any device: work is told again each time."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.pins = self.device.type == "cuda"

    def record(self, work: Work) -> Work:
        """See `Recorder.record`."""
        return work

    def wait(self) -> None:
        """See `Recorder.wait`."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()


class CudaGraphs:
    """Implements `Recorder` by CUDA graphs, whose memory is one pool: they are replayed one after the other."""

    pins: Final = True

    def __init__(self, device: torch.device | str = "cuda") -> None:
        """Raise `ConfigError` where there is no such device; fp32 is not rounded to TF32 any more."""
        named = torch.device(device)
        if named.type != "cuda":
            raise ConfigError(f"graphs are captured on CUDA devices, and {named} is none; name cuda or cuda:0")
        if not torch.cuda.is_available():
            raise ConfigError(
                "torch finds no CUDA device; serve with `--device cpu`, or install a CUDA build of torch where one is"
            )
        self.device = torch.device("cuda", torch.cuda.current_device() if named.index is None else named.index)
        if self.device.index >= torch.cuda.device_count():
            raise ConfigError(f"there is no device {self.device}; {torch.cuda.device_count()} were found")
        torch.backends.cuda.matmul.allow_tf32 = False
        with torch.cuda.device(self.device):
            self._pool = torch.cuda.graph_pool_handle()
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # who waits leaves the core
            # Streams of its own: libraries keep working memory by stream, a captured one belongs to the graphs' pool,
            # and what is captured on a stream that others share ends with whichever graph is dropped first.
            self._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._capturing = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def record(self, work: Work) -> Work:
        """See `Recorder.record`."""
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            self._aside.wait_stream(current)
            with torch.cuda.stream(self._aside):
                for _ in range(_WARM_UPS):
                    work()
            current.wait_stream(self._aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._capturing):
                work()

        def repeat() -> None:
            with torch.cuda.device(self.device):
                graph.replay()

        return repeat

    def wait(self) -> None:
        """See `Recorder.wait`."""
        self._done.record(torch.cuda.current_stream(self.device))
        self._done.synchronize()
