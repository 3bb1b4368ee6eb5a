"""The description of the API is valid, is the committed one, and tells the truth about the answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from asterism.serving.http import answers
from serving.running import Server

COMMITTED = Path(__file__).parents[2] / "web" / "openapi.json"


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_the_committed_description_is_the_served_one(server: Server) -> None:
    served = server.http.get("/openapi.json").json()
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == served, (
        "the API changed: fetch /openapi.json into web/openapi.json, then run `npm run types` in web/"
    )


def test_the_description_is_whole(server: Server) -> None:
    served = server.http.get("/openapi.json").json()
    assert served["openapi"].startswith("3.1")
    assert len(served["paths"]) == 10
    for reference in references(served):
        node = served
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
    for body in ("RecommendBody", "RecommendBatchBody", "FeedbackBody"):
        assert served["components"]["schemas"][body]["examples"]


def test_the_documented_routes_are_the_served_ones(server: Server) -> None:
    text = (COMMITTED.parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", text, re.MULTILINE))
    served = {
        f"{method.upper()} {path.replace('{item_id}', '{id}').replace('{user_id}', '{id}')}"
        for path, methods in server.http.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert documented == served


@pytest.mark.parametrize(
    ("method", "path", "body", "model"),
    [
        ("POST", "/api/v1/recommend", {"user_id": "u1", "explain": True}, answers.RecommendData),
        ("POST", "/api/v1/recommend", {}, answers.RecommendData),
        ("POST", "/api/v1/recommend/batch", {"requests": [{"user_id": "u1"}, {"cursor": "x"}]}, answers.BatchData),
        ("POST", "/api/v1/feedback", {"user_id": "described", "item_id": "lamps-00"}, answers.FeedbackData),
        ("GET", "/api/v1/item/lamps-00", None, answers.ItemCard),
        ("GET", "/api/v1/similar/lamps-00", None, answers.SimilarData),
        ("GET", "/api/v1/user/u1/profile", None, answers.ProfileData),
        ("GET", "/api/v1/users/sample", None, answers.UsersData),
        ("GET", "/healthz", None, answers.LiveData),
        ("GET", "/readyz", None, answers.ReadyData),
    ],
)
def test_answers_are_as_described(server: Server, method: str, path: str, body: object, model: type) -> None:
    answer = server.http.request(method, path, json=body)
    answers.Envelope[model].model_validate_json(answer.content, strict=True, extra="forbid")  # type: ignore[valid-type]
