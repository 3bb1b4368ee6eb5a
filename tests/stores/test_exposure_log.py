from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from asterism.core.errors import OverloadedError, StorageError
from asterism.stores.exposure_log import Exposure, LocalExposureLog
from asterism.stores.segments import SegmentFiles


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
    assert "1 exposures were lost" in caplog.text
    assert "No space left" in caplog.text
    with pytest.raises(StorageError, match="closed"):
        log.record(Exposure("a2", 1, ("x",), "model"))


def test_what_waits_is_bounded_and_written_soon(tmp_path: Path) -> None:
    log = LocalExposureLog(tmp_path, max_pending=3, gathering_seconds=1.0)
    for number in range(3):
        log.record(Exposure(f"a{number}", 1, ("x",), "model", propensities=(0.5,)))
    with pytest.raises(OverloadedError, match="3 exposures wait"):
        log.record(Exposure("too many", 1, ("x",), "model"))
    end = time.monotonic() + 60
    while True:
        try:
            log.record(Exposure("later", 2, ("y",), "stale"))
            break
        except OverloadedError:
            assert time.monotonic() < end, "nothing is written before the log is closed"
            time.sleep(0.01)
    log.close()
    again = LocalExposureLog(tmp_path)
    assert [one.attribution_id for one in again.replay()] == ["a0", "a1", "a2", "later"]
    again.close()


def test_what_an_older_asterism_wrote_is_read(tmp_path: Path) -> None:
    shown = Exposure("a1", 1, ("x", "é"), "model", user_id="ada", propensities=(0.5, 1.0))
    files = SegmentFiles(tmp_path)
    files.append(json.dumps(dataclasses.asdict(shown)).encode())
    files.close()
    log = LocalExposureLog(tmp_path)
    assert list(log.replay()) == [shown]
    log.close()


def test_a_thousand_are_enough_to_be_written_at_once(tmp_path: Path) -> None:
    log = LocalExposureLog(tmp_path, gathering_seconds=600.0)
    for number in range(2500):
        log.record(Exposure(f"a{number}", number, ("x",), "model"))
        if number == 999:
            end = time.monotonic() + 60
            while sum(1 for _ in log.replay()) < 1000:
                assert time.monotonic() < end, "they wait for the end of their time"
                time.sleep(0.01)
    log.close()
    again = LocalExposureLog(tmp_path)
    assert [one.attribution_id for one in again.replay()] == [f"a{number}" for number in range(2500)]
    again.close()
