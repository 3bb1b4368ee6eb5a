"""Processes that are stopped or killed in the middle of a deploy."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contracts.servers import children_of
from serving.running import STOP_SECONDS, Server, wait_until
from serving.small_market import HOLD_FILE, write_bundle


def deploy(server: Server, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.http.post("/admin/api/v1/model/deploy", json={"bundle": name}).json()
    return answer


def begun(pool: ThreadPoolExecutor, server: Server, name: str) -> Future[dict[str, Any]]:
    """A deploy whose model is loading, for as long as the hold file is there."""
    before = len(children_of(server.pid_of("engine")))
    deploying = pool.submit(deploy, server, name)
    wait_until(lambda: len(children_of(server.pid_of("engine"))) > before)
    return deploying


def served(server: Server) -> tuple[str, str | None]:
    """The engine's bundle, and what is wrong with it."""
    engine = server.http.get("/readyz").json()["data"]["engine"]
    return engine["bundle_version"], engine["error"]


@pytest.mark.parametrize(
    ("process", "number", "code", "why"),
    [
        (None, signal.SIGTERM, 10004, "the service was stopped before the deploy had ended"),
        ("gateway", signal.SIGTERM, 10004, "the service was stopped before the deploy had ended"),
        ("engine", signal.SIGTERM, 10005, "this engine is shutting down, and goes on with .*old"),
        ("engine", signal.SIGKILL, 10005, "cannot be reached"),
    ],
)
def test_a_deploy_that_is_cut_off_leaves_what_was_served_and_can_be_made_again(
    tmp_path: Path, process: str | None, number: signal.Signals, code: int, why: str
) -> None:
    old, new = (write_bundle(tmp_path / "bundles" / name, brand=name) for name in ("old", "new"))
    hold, log = tmp_path / "bundles" / HOLD_FILE, tmp_path / "server.log"
    with Server(old.path, tmp_path / "state", log=log) as running, ThreadPoolExecutor(1) as pool:
        wait_until((running.run_folder / "worker.pid").exists)
        hold.touch()
        deploying = begun(pool, running, "new")
        pid = running.pid_of(process) if process else running.process.pid
        os.kill(pid, number)
        if process == "engine":
            wait_until(
                lambda: f"the engine ended with status {-number if number == signal.SIGKILL else 0}" in log.read_text()
            )
            hold.unlink()
        told = deploying.result()
        assert (told["code"], bool(re.search(why, told["message"]))) == (code, True), told
        if process is None:
            assert running.process.wait(STOP_SECONDS) == 0
        else:
            hold.unlink(missing_ok=True)
            running.wait_ready()
            assert (served(running), running.recommend("u1")["bundle_version"]) == ((old.version, None), old.version)
            assert deploy(running, "new")["data"]["version"] == new.version
            assert served(running) == (new.version, None)
    wrong = [
        line for line in log.read_text().splitlines() if re.search("never retrieved|Error|ERROR (gateway|engine)", line)
    ]
    assert wrong == []
