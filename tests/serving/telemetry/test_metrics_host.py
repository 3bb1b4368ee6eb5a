"""Engine and worker tell their figures where they are told to, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from asterism.cli.main import app
from asterism.core.errors import ConfigError
from serving.running import Server, wait_until
from serving.small_market import write_bundle
from serving.telemetry.conftest import two_free_ports
from serving.telemetry.scraping import value

OTHER_HOST = "127.0.0.2"  # this machine too, but another address of it


def test_engine_and_worker_listen_at_the_address_that_is_named(tmp_path: Path) -> None:
    bundle, port = write_bundle(tmp_path / "bundle"), two_free_ports()
    options = ("--metrics-port", str(port), "--metrics-host", OTHER_HOST)
    with Server(bundle.path, tmp_path / "state", *options):
        for role, place in (("engine", port), ("worker", port + 1)):

            def answers(role: str = role, place: int = place) -> bool:
                try:
                    text = httpx.get(f"http://{OTHER_HOST}:{place}/metrics", timeout=10).text
                except httpx.ConnectError:
                    return False
                return value(text, "asterism_build_info", role=role) == 1

            wait_until(answers)
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"http://127.0.0.1:{place}/metrics", timeout=10)


@pytest.mark.parametrize("process", [(), ("engine",), ("worker",)])
def test_an_address_without_a_port_is_refused(process: tuple[str, ...], tmp_path: Path) -> None:
    arguments = ["serve", *process, "--bundle", str(tmp_path), "--metrics-host", OTHER_HOST]
    with pytest.raises(ConfigError, match="give --metrics-port too"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
