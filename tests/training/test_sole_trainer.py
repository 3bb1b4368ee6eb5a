"""Two trainings never mix their checkpoints."""

from pathlib import Path

import pytest

from asterism.core.errors import TrainingError
from asterism.training.sole_trainer import sole_trainer


def test_a_second_training_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bundle.run"
    with (
        sole_trainer(folder),
        pytest.raises(TrainingError, match="another training is at work in"),
        sole_trainer(folder),
    ):
        pytest.fail("both trainings are at work")
    with sole_trainer(folder):
        assert folder.is_dir()
