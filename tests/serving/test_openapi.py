"""The description of the API is valid, is the committed one, and tells the truth about the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from asterism.serving.http import answers, examples
from asterism.serving.http.admin import answers as admin_answers
from asterism.serving.http.admin import examples as admin_examples
from asterism.serving.http.described import EXAMPLES
from asterism.serving.http.errors import STATUS_OF_CODE
from asterism.serving.http.scopes import ADMIN_MODEL, ADMIN_READ, ADMIN_WRITE, FORGET, SCOPES, scope_of
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
    assert len(served["paths"]) >= 26
    for reference in references(served):
        node = served
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def operations(server: Server) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in server.http.get("/openapi.json").json()["paths"].items():
        for method, told in methods.items():
            yield f"{method.upper()} {path}", told


def test_every_body_has_an_example(server: Server) -> None:
    schemas = server.http.get("/openapi.json").json()["components"]["schemas"]
    bodies = {
        told["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for _, told in operations(server)
        if "application/json" in told.get("requestBody", {}).get("content", {})
    }
    assert len(bodies) >= 9
    assert [one for one in bodies if not schemas[one].get("examples")] == []


def test_every_answer_has_an_example_and_every_error_is_in_the_envelope(server: Server) -> None:
    answered = 0
    for name, told in operations(server):
        good = told["responses"]["200"].get("content", {}).get("application/json")
        if good is not None:
            assert set(good["example"]) == {"code", "message", "data", "trace_id"}, name
            answered += 1
        assert told["responses"]["default"]["content"]["application/json"]["schema"], name
        errors = {status: one for status, one in told["responses"].items() if status[0] in "45"}
        if name != "GET /readyz":
            assert [
                status for status, one in errors.items() if not one["content"]["application/json"]["examples"]
            ] == []
    assert answered >= 30


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (answers.RecommendData, examples.SLATE),
        (answers.BatchData, examples.BATCH),
        (answers.FeedbackData, examples.FEEDBACK),
        (answers.SessionData, examples.SESSION),
        (answers.UsersData, examples.SAMPLE),
        (answers.ProfileData, examples.PROFILE),
        (answers.ErasedData, examples.ERASED),
        (answers.SearchData, examples.SEARCH),
        (answers.ItemCard, examples.ITEM),
        (answers.SimilarData, examples.SIMILAR),
        (answers.LiveData, examples.LIVE),
        (answers.ReadyData, examples.READY),
        (admin_answers.AdminItem, admin_examples.ITEM),
        (admin_answers.AdminItems, admin_examples.ITEMS),
        (admin_answers.DeletedItem, admin_examples.DELETED),
        (admin_answers.AdminUser, admin_examples.USER),
        (admin_answers.AdminUsers, admin_examples.USERS),
        (admin_answers.ImportData, admin_examples.IMPORT),
        (admin_answers.DeploymentData, admin_examples.DEPLOYMENT),
        (admin_answers.DashboardData, admin_examples.DASHBOARD),
    ],
)
def test_examples_are_what_they_are_examples_of(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate_json(json.dumps(example), strict=True, extra="forbid")


def test_examples_of_errors_are_of_the_code_they_are_under() -> None:
    assert set(EXAMPLES) <= set(STATUS_OF_CODE)


def test_every_route_has_a_row_in_the_table_of_scopes(server: Server) -> None:
    needed = {
        (method.upper(), path): scope_of(method.upper(), path.replace("{", "").replace("}", ""))
        for path, methods in server.http.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert {path for (_, path), scope in needed.items() if scope is None} == {"/healthz", "/readyz"}
    assert {scope for scope in needed.values() if scope} == set(SCOPES)
    for (method, path), scope in needed.items():
        is_admin = path.startswith("/admin/")
        assert is_admin == str(scope).startswith("admin:"), (method, path, scope)
        assert not is_admin or (method == "GET") == (scope == ADMIN_READ), (method, path, scope)
    assert needed["POST", "/admin/api/v1/model/deploy"] == ADMIN_MODEL
    assert needed["DELETE", "/api/v1/user/{user_id}"] == FORGET
    assert scope_of("PUT", "/admin/api/v1/items/x/export") == ADMIN_WRITE


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
        ("POST", "/api/v1/session", None, answers.SessionData),
        ("GET", "/api/v1/search?q=star+lamps", None, answers.SearchData),
        ("DELETE", "/api/v1/user/described", None, answers.ErasedData),
        ("GET", "/admin/api/v1/dashboard", None, admin_answers.DashboardData),
        ("GET", "/admin/api/v1/model", None, admin_answers.DeploymentData),
        ("GET", "/admin/api/v1/items", None, admin_answers.AdminItems),
        ("GET", "/admin/api/v1/items/lamps-00", None, admin_answers.AdminItem),
        ("PUT", "/admin/api/v1/users/shown", {"attributes": {"a": 1}}, admin_answers.AdminUser),
        ("GET", "/admin/api/v1/users", None, admin_answers.AdminUsers),
        ("DELETE", "/admin/api/v1/users/shown", None, answers.ErasedData),
        ("GET", "/healthz", None, answers.LiveData),
        ("GET", "/readyz", None, answers.ReadyData),
    ],
)
def test_answers_are_as_described(server: Server, method: str, path: str, body: object, model: type) -> None:
    answer = server.http.request(method, path, json=body)
    answers.Envelope[model].model_validate_json(answer.content, strict=True, extra="forbid")  # type: ignore[valid-type]
