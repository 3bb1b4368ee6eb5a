"""`asterism doctor` beside a running service: what it holds is well, and the bundle is the one that it serves."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asterism.cli.main import app
from asterism.core.errors import ConfigError
from asterism.stores.folder_owner import own, owner_of
from serving.running import Server, wait_until
from serving.small_market import write_bundle


def doctor(*arguments: str | Path) -> tuple[int, str]:
    """The status, and what was said."""
    result = CliRunner().invoke(app, ["doctor", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.output


def test_a_running_service_is_well_and_its_deployed_bundle_is_checked(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "bundles" / "old")
    new = write_bundle(tmp_path / "bundles" / "new", brand="Lyra")
    state, file = tmp_path / "state", tmp_path / "deployment.toml"
    stores = {"catalogue": f"sqlite:///{state}/catalogue.db", "bus": f"local:{state}/events"}
    stores |= {"history": f"chdb:{state}/history", "blobs": f"file:{state}/blobs"}
    lines = [f"bundle = '{old.path}'", "[stores]", *(f"{name} = '{url}'" for name, url in stores.items())]
    file.write_text("\n".join(lines))
    with Server(old.path, state, "--config", str(file)) as server:
        wait_until(lambda: owner_of(state / "history") is not None)
        status, said = doctor("--config", file, "--state", state)
        assert (status, "7 of 7 are well" in said) == (0, True), said
        assert re.search(rf"well +history .*: in use by the worker, process {server.pid_of('worker')}\n", said)
        assert f"{old.path}: version {old.version}" in said
        assert server.http.post("/admin/api/v1/model/deploy", json={"bundle": "new"}).json()["code"] == 0
        for places in (
            ("--config", file, "--state", state),
            ("--state", state),
            ("--bundle", old.path, "--state", state),
        ):
            status, said = doctor(*places)
            assert (status, f"{new.path}: version {new.version}" in said) == (0, True), said
        assert f"deployed in place of {old.path}" in said
    (new.path / "items.parquet").write_bytes(b"cut")
    status, said = doctor("--state", state)
    assert (status, "6 of 7 are well" in said, "the copy was cut short" in said) == (1, True, True), said
    assert re.search(r"well +history .*: engine \d", said), "nobody has it any more, so it is opened"


def test_another_program_that_has_the_history_is_wrong(tmp_path: Path) -> None:
    lock = own(tmp_path / "history", "program")
    with pytest.raises(BlockingIOError):
        own(tmp_path / "history", "worker")
    status, said = doctor("--state", tmp_path, "--migrate")
    assert (status, "5 of 6 are well" in said) == (1, True), said
    assert f"{tmp_path}/history is in use by another process" in said
    os.close(lock)


def test_what_to_check_must_be_said_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say what to check: --config"):
        doctor()
    with pytest.raises(ConfigError, match="typo is not there, so no service ran on it"):
        doctor("--state", tmp_path / "typo")
    assert not (tmp_path / "typo").exists()
