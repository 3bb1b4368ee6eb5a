"""Every operation of the description, with good and bad data: no 5xx, and no answer that is not described.

A longer run against any server: `SCHEMATHESIS_HOOKS=serving.schemathesis_hooks PYTHONPATH=tests st run URL/openapi.json
--max-examples 500 --exclude-checks positive_data_acceptance`
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.running import TESTS, Server
from serving.small_market import write_bundle

#: Rules over several fields (bounds in order, one event or many) are in no schema, so what fits it may be refused.
EXCLUDED = "positive_data_acceptance"


@pytest.mark.timeout(1800)
def test_no_operation_breaks_or_answers_what_is_not_described(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    with Server(tmp_path / "bundle", tmp_path / "state") as server:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.http.base_url}/openapi.json"),
                *("--seed", "11", "--max-examples", "2", "--phases", "examples,coverage,fuzzing"),
                *("--exclude-checks", EXCLUDED, "--suppress-health-check", "all", "--no-color"),
                *("--continue-on-failure", "--request-timeout", "30"),
            ],
            env={**os.environ, "PYTHONPATH": str(TESTS), "SCHEMATHESIS_HOOKS": "serving.schemathesis_hooks"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1700,
        )
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
        tested = re.search(r"Selected: (\d+)/\1\s+Tested: (\d+)", run.stdout)
        assert tested is not None
        assert tested[1] == tested[2]
        assert int(re.findall(r"(\d+) generated", run.stdout)[0]) > 1000
        assert server.http.get("/readyz").status_code == 200
