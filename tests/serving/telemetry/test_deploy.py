"""Rules and dashboards speak of metrics that there are, of all of them, in PromQL, and each alert has its page."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from serving.telemetry.conftest import Observed

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "asterism.json").read_text(encoding="utf-8"))
NAME = re.compile(r"(?<![\w:\"])[a-z_]\w*:[\w:]+|(?<![\w:\"])asterism_\w+")
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")


def rules(kind: str) -> list[dict[str, Any]]:
    return [one for group in RULES["groups"] for one in group["rules"] if kind in one]


def drawn() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def used() -> set[str]:
    """Every metric and recording that rules and dashboard speak of."""
    expressions = [*drawn(), *(one["expr"] for one in (*rules("record"), *rules("alert")))]
    return {name for expression in expressions for name in NAME.findall(expression)}


def families(observed: Observed) -> dict[str, str]:
    """Name → type of all that the three processes expose."""
    texts = "".join(observed.scrape(role) for role in ("gateway", "engine", "worker"))
    found = dict(re.findall(r"^# TYPE (\S+) (\S+)$", texts, re.MULTILINE))
    return {name: kind for name, kind in found.items() if name.startswith("asterism_")}


def samples(name: str, kind: str) -> set[str]:
    """The names under which a family is asked for."""
    return {name + part for part in ("_bucket", "_count", "_sum")} if kind == "histogram" else {name}


def test_what_is_asked_for_is_exposed_and_the_other_way_round(observed: Observed) -> None:
    exposed = families(observed)
    assert len(exposed) > 25
    recorded = {one["record"] for one in rules("record")}
    asked = used()
    known = set().union(*(samples(name, kind) for name, kind in exposed.items()))
    assert {one for one in asked if ":" in one} == recorded, "a recording that nobody reads, or one that is not there"
    assert {one for one in asked if ":" not in one} - known == set()
    assert [name for name, kind in exposed.items() if not samples(name, kind) & asked] == []


def test_the_page_explains_every_metric_and_no_other(observed: Observed) -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(asterism_\w+)", page, re.MULTILINE))
    assert told == set(families(observed))


def test_every_alert_has_its_part_of_the_runbook() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (Asterism\w+)$", page, re.MULTILINE))
    alerts = rules("alert")
    assert headings == {one["alert"] for one in alerts}
    for one in alerts:
        assert one["annotations"]["runbook"] == f"docs/operations.md#{one['alert'].lower()}"
        assert one["labels"]["severity"] in {"page", "ticket"}


def test_the_dashboard_is_the_one_of_the_table() -> None:
    written = (DEPLOY / "grafana" / "dashboards" / "asterism.json").read_text(encoding="utf-8")
    assert written == script().text(), "run: python deploy/grafana/dashboards.py"
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", DEPLOY / "grafana" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_promtool
def test_rules_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", DEPLOY / "prometheus" / "rules_test.yml")
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    shown = [[alert["alertname"] for alert in one["alert_rule_test"]] for one in tests]
    assert [set(one) for one in shown] == [{one["alert"] for one in rules("alert")}] * len(tests)


@needs_promtool
def test_prometheus_reads_our_files(tmp_path: Path) -> None:
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    asked = [{"record": f"drawn:{place}:x", "expr": expression} for place, expression in enumerate(drawn())]
    assert len(asked) > 40
    file = tmp_path / "drawn.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "drawn", "rules": asked}]}), encoding="utf-8")
    promtool("check", "rules", file)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yml")), ids=lambda one: one.name)
def test_every_file_is_read(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
