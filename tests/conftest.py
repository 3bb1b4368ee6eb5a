from __future__ import annotations

import os

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything of theirs is imported
# As `asterism.serving.grpc` does, but before any test imports gRPC, which heeds it only then: with it, a process that
# is started while gRPC is at work may end by SIGSEGV.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# The same cases in every run, and none fails for having waited for another process.
settings.register_profile("asterism", deadline=None, derandomize=True)
settings.load_profile("asterism")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each fault cost; the tests of faults say so in a property, which also comes from another process."""
    reports = [one for name in ("passed", "failed") for one in terminalreporter.stats.get(name, [])]
    lines = [str(value) for one in reports for name, value in one.user_properties if name == "fault"]
    if lines:
        terminalreporter.section("faults under load")
        for line in lines:
            terminalreporter.line(line)
