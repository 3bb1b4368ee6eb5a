"""Large blocks that are freed and asked for again cost no page faults once the C library keeps them."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from asterism.core.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.ones(1 << 24)
print(faults(), end=" ")
told = keep_freed_memory()
faults()  # the heap grows to its size
print(faults(), told)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_blocks_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, after, told = done.stdout.split()
    if told == "False":
        pytest.skip("this C library cannot be told")
    if int(before) < 1_000:
        pytest.skip("this kernel does not count page faults, or another allocator keeps memory already")
    assert int(after) * 4 < int(before)
