"""What gateway and engine tell of their bundle after another one was deployed, and after the way back."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import httpx

from asterism.core.bundle import MANIFEST, Bundle
from serving.running import Server
from serving.small_market import write_bundle
from serving.telemetry.conftest import two_free_ports
from serving.telemetry.scraping import value


def made_at(bundle: Bundle, moment: str) -> Bundle:
    """The bundle as if it had been trained then."""
    path = bundle.path / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created_at": moment}))
    return Bundle.open(bundle.path)


def test_version_and_age_are_those_of_the_bundle_that_is_served(tmp_path: Path) -> None:
    old = made_at(write_bundle(tmp_path / "bundles" / "old"), "2026-01-02T03:04:05+00:00")
    new = made_at(write_bundle(tmp_path / "bundles" / "new", brand="Lyra"), "2026-03-04T05:06:07+00:00")
    port = two_free_ports()
    with Server(old.path, tmp_path / "state", "--metrics-port", str(port)) as server:
        addresses = (f"{server.http.base_url}", f"http://127.0.0.1:{port}")

        def told() -> list[tuple[float | None, float | None, float | None]]:
            texts = [httpx.get(f"{one}/metrics", timeout=10).text for one in addresses]
            versions = [
                [value(text, "asterism_build_info", bundle_version=one.version) for one in (old, new)] for text in texts
            ]
            ages = [value(text, "asterism_bundle_created_seconds") for text in texts]
            return [(*found, age) for found, age in zip(versions, ages, strict=True)]

        def seconds(bundle: Bundle) -> float:
            return datetime.fromisoformat(bundle.manifest.created_at).timestamp()

        assert told() == [(1, None, seconds(old))] * 2
        assert server.http.post("/admin/api/v1/model/deploy", json={"bundle": "new"}).json()["code"] == 0
        assert told() == [(None, 1, seconds(new))] * 2
        assert server.http.post("/admin/api/v1/model/rollback").json()["code"] == 0
        assert told() == [(1, None, seconds(old))] * 2
