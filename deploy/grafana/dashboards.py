"""Writes the dashboard from the table below: python deploy/grafana/dashboards.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 8, 7
RECOMMEND = 'asterism_http_request_seconds_bucket{route="/api/v1/recommend"}'
CLIENTS = 'route!~"/readyz|/healthz|/metrics"'


class Panel(NamedTuple):
    """A title, a unit of Grafana's, and what is drawn: legend → PromQL."""

    title: str
    unit: str
    drawn: dict[str, str]
    told: str = ""


def quantiles(metric: str, by: str = "", *shares: float) -> dict[str, str]:
    """Quantiles of a histogram over five minutes, by one label or over all."""
    labels, legend = (f"{by}, le", f"{{{{{by}}}}} ") if by else ("le", "")
    return {
        f"{legend}p{share * 100:g}": f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[5m])))"
        for share in shares or (0.5, 0.95, 0.99)
    }


ROWS: dict[str, list[Panel]] = {
    "What visitors get": [
        Panel(
            "Requests", "reqps", {"{{route}}": f"sum by (route) (rate(asterism_http_requests_total{{{CLIENTS}}}[1m]))"}
        ),
        Panel(
            "P99 by route (40 ms promised)",
            "s",
            {"{{route}}": 'route:asterism_http_request_seconds:p99_5m{route=~"/api/.*"}'},
        ),
        Panel("Share of failures (0.05 % at most)", "percentunit", {"failures": "asterism:http_errors:share5m"}),
        Panel(
            "Answers by rung",
            "percentunit",
            {"{{source}}": "source:asterism_answers:share5m"},
            "model, else the last slate, else what is popular; a visitor without a history gets what is popular.",
        ),
        Panel(
            "Fallbacks, cached and narrowed answers",
            "percentunit",
            {
                "fallbacks": "asterism:fallbacks:share5m",
                "cached": "asterism:cached:share5m",
                "narrower beam": "asterism:degraded:share5m",
            },
        ),
        Panel(
            "Errors by code",
            "reqps",
            {"{{code}}": "sum by (code) (rate(asterism_http_errors_total[1m]))"},
            "docs/api.md lists the codes.",
        ),
    ],
    "Where the time goes": [
        Panel(
            "P99 by stage",
            "s",
            {"{{stage}}": "stage:asterism_stage_seconds:p99_5m"},
            "guard: keys, limits and the reading of the body.",
        ),
        Panel(
            "POST /api/v1/recommend",
            "s",
            {
                f"p{share:g}": f"histogram_quantile({share / 100}, sum by (le) (rate({RECOMMEND}[1m])))"
                for share in (50, 95, 99, 99.9)
            },
        ),
        Panel("Requests in progress", "short", {"{{instance}}": "asterism_http_requests_in_progress"}),
    ],
    "The engine": [
        Panel(
            "Requests by outcome",
            "reqps",
            {
                "{{outcome}}": "sum by (outcome) (max by (outcome, process) "
                "(rate(asterism_engine_requests_total[1m])))",
                "narrower beam": "sum(max by (process) (rate(asterism_engine_degraded_requests_total[1m])))",
            },
        ),
        Panel(
            "In line and under way",
            "short",
            {
                "in line": "max(asterism_engine_waiting_requests)",
                "under way": "max(asterism_engine_under_way_requests)",
            },
        ),
        Panel(
            "Requests a batch",
            "short",
            {**quantiles("asterism_engine_batch_requests", "", 0.99), "mean": "max(asterism_engine_batch_rows)"},
        ),
        Panel("Time of a batch", "s", quantiles("asterism_engine_batch_seconds")),
        Panel(
            "Batches by the width of their beam",
            "ops",
            {"{{width}}": "sum by (width) (max by (process, width) (rate(asterism_engine_batches_total[1m])))"},
        ),
        Panel(
            "What batches cost",
            "short",
            {"speed": "max(asterism_engine_speed_ratio)", "spread": "max(asterism_engine_spread_ratio)"},
            "speed: how many times longer than when the model was loaded; spread: mean relative error of the estimate.",
        ),
        Panel(
            "Estimates",
            "s",
            {
                "one request, widest": "max(asterism_engine_lone_seconds)",
                "full batch, narrowest": "max(asterism_engine_full_seconds)",
            },
        ),
        Panel(
            "States kept between requests",
            "bytes",
            {"{{engine}} {{store}}": "max by (engine, store) (asterism_engine_kept_bytes)"},
        ),
        Panel(
            "Engines up, and starts",
            "short",
            {
                "{{instance}} up": "asterism_engine_up",
                "starts": "sum(max by (process) (asterism_engine_starts_total))",
                "breaker open": "max(asterism_engine_breaker_open)",
            },
        ),
    ],
    "Feedback and the nearline loop": [
        Panel(
            "Events by outcome", "ops", {"{{outcome}}": "sum by (outcome) (rate(asterism_feedback_events_total[1m]))"}
        ),
        Panel("Until feedback is durable", "s", quantiles("asterism_feedback_commit_seconds")),
        Panel("Lag by group", "short", {"{{group}}": "max by (group) (asterism_bus_lag_events)"}),
        Panel(
            "Events dealt with", "ops", {"{{group}}": "sum by (group) (rate(asterism_bus_handled_events_total[1m]))"}
        ),
        Panel("P99 of a batch of events", "s", quantiles("asterism_bus_batch_seconds", "group", 0.99)),
        Panel("Groups at work", "short", {"{{group}}": "min by (group) (asterism_bus_group_up)"}),
        Panel("Dead letters", "short", {"{{group}}": "sum by (group) (asterism_bus_dead_letters_total)"}),
        Panel("From the worker to the slate", "s", quantiles("asterism_nearline_seconds")),
        Panel(
            "Slates made anew",
            "ops",
            {
                "{{outcome}}": "sum by (outcome) (rate(asterism_nearline_slates_total[1m]))",
                "left out": "sum(rate(asterism_nearline_dropped_visitors_total[1m]))",
            },
        ),
        Panel("Visitors who wait for a slate", "short", {"waiting": "sum(asterism_nearline_waiting_visitors)"}),
        Panel("Exposures by outcome", "ops", {"{{outcome}}": "sum by (outcome) (rate(asterism_exposures_total[1m]))"}),
    ],
    "Processes": [
        Panel(
            "Versions",
            "short",
            {"{{role}} {{version}} {{bundle_version}}": "max by (role, version, bundle_version) (asterism_build_info)"},
        ),
        Panel("Age of the model", "s", {"age": "time() - min(asterism_bundle_created_seconds)"}),
        Panel(
            "CPU",
            "short",
            {"{{job}} {{instance}}": 'rate(process_cpu_seconds_total{job=~"asterism-.*"}[1m])'},
            "Processor cores in use.",
        ),
        Panel("Memory", "bytes", {"{{job}} {{instance}}": 'process_resident_memory_bytes{job=~"asterism-.*"}'}),
        Panel("Open files", "short", {"{{job}} {{instance}}": 'process_open_fds{job=~"asterism-.*"}'}),
    ],
}


def dashboard() -> dict[str, Any]:
    """The whole dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}
        )
        for number, one in enumerate(row):
            place = {"x": number % 3 * WIDTH, "y": top + 1 + number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(panel_of(one, len(panels) + 1, place))
        top += 1 + (len(row) + 2) // 3 * HEIGHT
    variable = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "asterism",
        "title": "Asterism",
        "tags": ["asterism"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }


def panel_of(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    """One panel with its lines."""
    targets = [
        {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
        for index, (legend, expression) in enumerate(panel.drawn.items())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.told,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def text() -> str:
    """The dashboard's file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "asterism.json").write_text(text(), encoding="utf-8")
