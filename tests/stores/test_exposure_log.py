from __future__ import annotations

import os
from pathlib import Path

import pytest

from asterism.stores.exposure_log import Exposure, LocalExposureLog


def test_recorded_exposures_are_on_the_disk_after_close(tmp_path: Path) -> None:
    shown = [Exposure(f"a{number}", number, ("x", "y"), "model", user_id="ada") for number in range(20)]
    log = LocalExposureLog(tmp_path)
    for one in shown:
        log.record(one)
    log.close()
    again = LocalExposureLog(tmp_path)
    assert list(again.replay()) == shown
    again.close()


def test_a_lost_exposure_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    log = LocalExposureLog(tmp_path)
    monkeypatch.setattr(os, "fdatasync", fail)
    log.record(Exposure("a1", 1, ("x",), "model"))
    log.close()
    assert "exposure a1 was lost" in caplog.text
