"""A process of several that were launched ends without taking itself apart; one alone goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from asterism.training.launches import leave
from command_line import environment

#: What runs at an end in good order aborts here: so an end that skips it is told from one that does not.
LEAVING = """
import atexit, os, sys
from accelerate import PartialState
from asterism.training.launches import leave

atexit.register(os.abort)
state = PartialState(cpu=True)
print("told by", state.process_index)
print("also", state.process_index, file=sys.stderr)
leave()
"""


def test_a_process_of_two_is_gone_at_once_with_all_that_it_said(tmp_path: Path) -> None:
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING, encoding="utf-8")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = subprocess.run(
        [*launcher, str(script)],
        capture_output=True,
        text=True,
        env=environment(CUDA_VISIBLE_DEVICES=""),
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "told by 0", "told by 1"]
    assert {"also 0", "also 1"} <= set(done.stderr.split("\n"))


def test_alone_it_goes_on() -> None:
    leave()
