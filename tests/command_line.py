"""The command line as a user has it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: A run that takes seconds: no text model, a narrow network.
TINY_CONFIG = """
name = "tiny-market"
[data]
path = "market"
[embeddings]
text_model = "tfidf"
width = 32
[semantic_ids]
codes = 16
[model]
width = 16
blocks = 1
dropout = 0.1
max_events = 20
[training]
epochs = 6
learning_rate = 0.005
negatives = 0
[decoding]
beam = 50
"""


def asterism(*arguments: str | Path, launcher: tuple[str, ...] = (sys.executable, "-m")) -> list[str]:
    """The command line as a child process gets it."""
    return [*launcher, "asterism", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """The variables of a child process: ours, one thread, and more."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    env = environment(**more)
    return subprocess.run(asterism(*arguments), capture_output=True, text=True, env=env, check=False, timeout=900)
