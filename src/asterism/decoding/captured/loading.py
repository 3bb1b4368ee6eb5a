"""A bundle's recommender on a device."""

from __future__ import annotations

from asterism.decoding.captured.generator import MOST_ROWS, CapturedGenerator
from asterism.decoding.captured.recording import Recorder
from asterism.decoding.loading import TrainedRecommender


def captured_generator(
    trained: TrainedRecommender, recorder: Recorder, most_rows: int = MOST_ROWS
) -> CapturedGenerator:
    """A generator whose answers are those of `trained.generator`; raises `ModelError` where the model is no UGT.

    Where the configuration's precision is not fp32, matrix products are bf16: rounding to int8 is for processors.
    """
    config = trained.config.decoding
    return CapturedGenerator(
        trained.ugt,
        config,
        recorder,
        heads=trained.generator.heads,
        precision="fp32" if config.precision == "fp32" else "bf16",
        most_rows=most_rows,
        attributes=1 if trained.attributes is None else trained.attributes.codes.shape[1],
    )
