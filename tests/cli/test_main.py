"""What a user is told when a file fails them: one sentence, status 2, no traceback."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from asterism.cli import main


def test_a_file_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "vectors.npy", np.eye(4))
    vectors, under_a_file = str(tmp_path / "vectors.npy"), str(tmp_path / "vectors.npy" / "out")
    monkeypatch.setattr(sys, "argv", ["asterism", "sids", "build", "--vectors", vectors, "--output", under_a_file])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back afterwards
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"error StorageError: {under_a_file}: Not a directory")
    assert len(said.splitlines()) == 1
