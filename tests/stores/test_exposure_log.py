from __future__ import annotations

from pathlib import Path

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
