"""The trained generator of a bundle as an engine on a GPU."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from asterism.core.bundle import Bundle
from asterism.decoding.captured.loading import captured_generator
from asterism.decoding.captured.recording import CudaGraphs, Recorder
from asterism.decoding.loading import load_recommender
from asterism.serving.engine.generator import GeneratorEngine
from asterism.serving.engine.limits import EngineLimits

logger = logging.getLogger(__name__)


def load_engine(bundle: Path) -> GeneratorEngine:
    """Load a bundle onto the CUDA device; raises `BundleError`, `ModelError`, and `ConfigError` where there is none."""
    return captured_engine(bundle, CudaGraphs())


def captured_engine(bundle: Path, recorder: Recorder) -> GeneratorEngine:
    """Load a bundle, and record all sizes of batches; raises `BundleError` or `ModelError`."""
    trained = load_recommender(Bundle.open(bundle))
    generator = captured_generator(trained, recorder, EngineLimits().max_batch)
    started = time.monotonic()
    generator.recordings.record_all()
    taken = time.monotonic() - started
    torch.set_num_threads(1)  # tables of a large catalogue were made by all; what is left for a core is one thread's
    logger.info("%d graphs were recorded on %s in %.1f s", len(generator.recordings), recorder.device, taken)
    return GeneratorEngine(trained, generator)
