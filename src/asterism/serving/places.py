"""What a service uses where nothing else is named; imports nothing, as a supervisor asks before anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: The adapter over `asterism.decoding`; another engine is named the same way.
DEFAULT_ENGINE: Final = "asterism.serving.engine.generator:load_engine"

#: The same on a GPU.
CUDA_ENGINE: Final = "asterism.serving.engine.captured:load_engine"

#: Where metrics are told, unless somebody else than this machine is to read them.
METRICS_HOST: Final = "127.0.0.1"


def default_state_folder(bundle: Path) -> Path:
    """Beside the bundle, by its name: feedback outlives the bundle that is trained in its place."""
    folder = bundle.resolve()
    return folder.parent / f"state-{folder.name}"
