"""Whoever asks meets the gate first: keys, scopes, limits, budgets and origins, with their exact codes."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from asterism.config.guard import GuardConfig
from asterism.core.clock import ManualClock, SystemClock
from asterism.core.errors import ConfigError
from asterism.serving.http import gate as gate_module
from asterism.serving.http.errors import STATUS_OF_CODE
from asterism.serving.http.gate import Gate, gate_over
from asterism.serving.http.listening import is_loopback
from asterism.serving.http.middleware import frame
from asterism.serving.http.middleware.access import scope_needed
from asterism.serving.http.middleware.key_ring import KeyRing
from asterism.serving.http.middleware.limits import LeasedLimits
from asterism.serving.http.scopes import SCOPES
from asterism.stores.api_keys import LocalApiKeys, new_key
from asterism.stores.rate_limits import LocalRateLimits

NOW = 1_800_000_000.0
Ask = Callable[..., httpx.Response]


class Reached:
    """An application that tells what came through, after `seconds`."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        body = (await receive())["body"]
        assert body == scope["state"]["body"]
        answer = json.dumps({"code": 0, "size": len(body)}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.scopes[-1]["state"])


def asking(gate: Gate, app: Reached, host: str = "127.0.0.1:8000") -> Ask:
    around = gate.around(app)

    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(around),
                base_url=f"http://{host}",  # type: ignore[arg-type]
            ) as client:
                return await client.request(method, path, **more)

        return asyncio.run(once())

    return ask


def code_of(answer: httpx.Response) -> int:
    body = answer.json()
    assert answer.status_code == STATUS_OF_CODE[body["code"]]
    if body["code"]:
        assert set(body) == {"code", "message", "data", "trace_id"}
    return int(body["code"])


@pytest.fixture
def keys() -> LocalApiKeys:
    return LocalApiKeys()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def ring(keys: LocalApiKeys, clock: ManualClock) -> Iterator[KeyRing]:
    made = KeyRing(keys, clock, refresh_seconds=0.01)
    yield made
    made.close()


def made(keys: LocalApiKeys, ring: KeyRing, *scopes: str, expires_at: int | None = None) -> str:
    """The token of a new key that the ring knows already."""
    key, token = new_key("Ada", frozenset(scopes or SCOPES), NOW, expires_at)
    keys.add(key)
    until(lambda: key.key_id in ring._keys)
    return token


def until(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.002)

    asyncio.run(wait())


def bearer(token: str | bytes) -> dict[str, str | bytes]:
    return {"authorization": b"Bearer " + (token.encode() if isinstance(token, str) else token)}


def test_a_key_opens_what_its_scopes_say_and_nothing_else(keys: LocalApiKeys, ring: KeyRing) -> None:
    token = made(keys, ring, "recommend", "feedback")
    app = Reached()
    ask = asking(Gate(ring=ring), app)
    for method, path, code in (
        ("POST", "/api/v1/recommend", 0),
        ("POST", "/api/v1/recommend/batch", 0),
        ("GET", "/api/v1/item/i1", 0),
        ("GET", "/api/v1/search?q=x", 0),
        ("POST", "/api/v1/feedback", 0),
        ("GET", "/api/v1/user/u1/profile", 20010),
        ("GET", "/api/v1/users/sample", 20010),
        ("DELETE", "/api/v1/user/u1", 20010),
        ("GET", "/admin/api/v1/items", 20010),
        ("PUT", "/admin/api/v1/items/i1", 20010),
        ("POST", "/admin/api/v1/model/deploy", 20010),
        ("GET", "/metrics", 20010),
        ("GET", "/healthz", 0),
        ("GET", "/", 0),
    ):
        answer = ask(method, path, headers=bearer(token))
        assert code_of(answer) == code, (method, path)
        if code == 20010:
            assert re.search(r"lacks the scope '[a-z:]+'", answer.json()["message"])
    assert ask("GET", "/api/v1/item/i1", headers={"x-api-key": token}).status_code == 200
    assert ask("HEAD", "/api/v1/item/i1", headers=bearer(token)).status_code == 200
    assert ask("HEAD", "/api/v1/user/u1/profile", headers=bearer(token)).status_code == 403
    assert app.state["key_id"] == token[4:16]


def test_without_a_key_only_what_a_browser_loads_by_itself_is_open(keys: LocalApiKeys, ring: KeyRing) -> None:
    made(keys, ring)
    ask = asking(Gate(ring=ring), Reached())
    for path in ("/", "/assets/a.js", "/healthz", "/readyz", "/openapi.json", "/api/v1/item/i/1/cover"):
        assert ask("GET", path).status_code == 200, path
    for method, path in (
        ("POST", "/api/v1/recommend"),
        ("GET", "/api/v1/item/i1"),
        ("POST", "/api/v1/item/i1/cover"),
        ("GET", "/api/v1/item/i1%2Fcover"),
        ("GET", "/api/v1/nowhere"),
        ("GET", "/admin/nowhere"),
        ("GET", "/metrics"),
    ):
        answer = ask(method, path)
        assert code_of(answer) == 20009, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "no API key was given" in answer.json()["message"]


def test_no_described_route_is_open_by_mistake() -> None:
    def needed(method: str, path: str) -> str | None:
        return scope_needed(method, path, path.encode())

    described = json.loads((Path(__file__).parents[2] / "web" / "openapi.json").read_text(encoding="utf-8"))["paths"]
    routes = [(method.upper(), path.translate({123: "", 125: ""})) for path in described for method in described[path]]
    open_ones = {path for method, path in routes if needed(method, path) is None}
    assert len(routes) > 8
    assert open_ones == {"/healthz", "/readyz", "/api/v1/item/item_id/cover"}
    assert {needed(method, path) for method, path in routes} - {None} <= set(SCOPES)
    assert {str(needed(*one)).partition(":")[0] for one in routes if one[1].startswith("/admin")} <= {"admin"}


def spoilt(token: str) -> dict[str, bytes]:
    good = token.encode()
    other = b"b" if good[-1:] != b"b" else b"c"
    return {
        "truncated": good[:-1],
        "forged": good[:-1] + other,
        "another's secret": b"ast_" + b"0" * 12 + good[16:],
        "longer": good + b"A",
        "large": good * 500,
        "empty": b"",
        "unicode": "ast_ключ⭐".encode(),
        "not utf-8": b"\xff\xfe" * 30,
        "sql": b"' OR 1=1; --",
        "upper case": good.upper(),
        "an id alone": good[:16],
    }


@pytest.mark.parametrize("how", spoilt("ast_" + "0" * 12 + "_" + "x" * 43))
def test_what_is_not_exactly_a_key_is_none(keys: LocalApiKeys, ring: KeyRing, how: str) -> None:
    token = made(keys, ring)
    ask = asking(Gate(ring=ring), Reached())
    bad = spoilt(token)[how]
    for headers in ({"authorization": b"Bearer " + bad}, {"x-api-key": bad}):
        answer = ask("POST", "/api/v1/recommend", headers=headers)
        assert code_of(answer) == 20009
        assert "not known" in answer.json()["message"]
        assert token[17:] not in answer.text
    basic = ask("POST", "/api/v1/recommend", headers={"authorization": b"Basic " + token.encode()})
    assert (code_of(basic), "Bearer" in basic.json()["message"]) == (20009, True)


def test_an_expired_and_a_revoked_key_are_told_so_only_with_their_secret(
    keys: LocalApiKeys, ring: KeyRing, clock: ManualClock
) -> None:
    expiring, revoked = made(keys, ring, expires_at=int(NOW) + 60), made(keys, ring)
    ask = asking(Gate(ring=ring), Reached())
    assert ask("POST", "/api/v1/recommend", headers=bearer(expiring)).status_code == 200
    keys.revoke(revoked[4:16], int(NOW))
    until(lambda: ring._keys[revoked[4:16]].revoked_at is not None)
    clock.advance(60.0)
    for token, word in ((expiring, "expired at 2027-01-15 08:01 UTC"), (revoked, "was revoked")):
        answer = ask("POST", "/api/v1/recommend", headers=bearer(token))
        assert (code_of(answer), word in answer.json()["message"]) == (20009, True)
        forged = ask("POST", "/api/v1/recommend", headers=bearer(token[:-2] + "--"))
        assert "not known" in forged.json()["message"]


def test_a_first_key_closes_an_open_service_and_its_revocation_does_not_open_it(
    keys: LocalApiKeys, ring: KeyRing
) -> None:
    ask = asking(Gate(ring=ring, only_here=True), Reached())
    assert ask("POST", "/api/v1/recommend").status_code == 200
    token = made(keys, ring)
    assert code_of(ask("POST", "/api/v1/recommend")) == 20009
    keys.revoke(token[4:16], int(NOW))
    until(lambda: ring._keys[token[4:16]].revoked_at is not None)
    assert code_of(ask("POST", "/api/v1/recommend")) == 20009


def test_an_open_service_is_for_this_machine_and_not_for_pages_elsewhere() -> None:
    gate = Gate(GuardConfig(origins=("https://shop.example",)), only_here=True)
    ask = asking(gate, Reached())
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "127.1.2.3:80"):
        assert ask("POST", "/api/v1/recommend", headers={"host": host}).status_code == 200
    for host in ("shop.example", "localhost.shop.example", "127.0.0.1.shop.example:80", "127.0.0.1@shop.example"):
        answer = ask("POST", "/api/v1/recommend", headers={"host": host})
        assert (code_of(answer), "only requests to localhost" in answer.json()["message"]) == (20010, True), host
    origins = {"http://127.0.0.1:8000": 0, "https://shop.example": 0, "https://evil.example": 20010, "null": 20010}
    for origin, code in origins.items():
        assert code_of(ask("POST", "/api/v1/feedback", headers={"origin": origin})) == code
        assert ask("GET", "/api/v1/item/i", headers={"origin": origin}).status_code == 200


def test_a_key_has_its_rate_over_a_scope_and_is_told_when_to_come_back(
    keys: LocalApiKeys, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "LeasedLimits", partial(LeasedLimits, monotonic=ManualClock().now))
    one, two = made(keys, ring), made(keys, ring)
    config = GuardConfig(key_per_second={"feedback": 150.0, "recommend": 1.0})
    ask = asking(Gate(config, ring, LocalRateLimits(ManualClock())), Reached())
    codes = [code_of(ask("POST", "/api/v1/feedback", headers=bearer(one))) for _ in range(152)]
    assert codes == [0] * 150 + [20011] * 2
    refused = ask("POST", "/api/v1/feedback", headers=bearer(one))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "150 requests a second" in refused.json()["message"]
    assert ask("POST", "/api/v1/feedback", headers=bearer(two)).status_code == 200, "each key has its own"
    assert ask("GET", "/api/v1/user/u/profile", headers=bearer(one)).status_code == 200, "each scope has its own"
    assert ask("POST", "/api/v1/recommend/batch", headers=bearer(one)).status_code == 200
    batch = ask("POST", "/api/v1/recommend/batch", headers=bearer(one))
    assert (code_of(batch), batch.headers["retry-after"]) == (20011, "100"), "a batch counts as a hundred"


def test_an_instance_has_its_rate_whoever_asks() -> None:
    ask = asking(Gate(GuardConfig(instance_per_second=0.01)), Reached())
    codes = [code_of(ask("GET", "/api/v1/item/i")) for _ in range(101)]
    assert codes == [0] * 100 + [20011]
    assert ask("POST", "/api/v1/feedback").status_code == 200


@pytest.mark.parametrize("said", ["0", "-1", "abc", "1.5", "1000000", "", "\uff11\uff10", "9" * 99])
def test_a_budget_that_is_none_is_explained(said: str) -> None:
    answer = asking(Gate(), Reached())("POST", "/api/v1/recommend", headers={"x-request-timeout-ms": said.encode()})
    assert (code_of(answer), "x-request-timeout-ms" in answer.json()["message"]) == (20001, True)


def test_a_budget_is_passed_on_and_ends_what_only_reads() -> None:
    fast, slow = Reached(), Reached(seconds=0.2)
    before = time.monotonic()
    said = {"x-request-timeout-ms": "250000"}
    assert asking(Gate(), fast)("POST", "/api/v1/recommend", headers=said).status_code == 200
    assert before + 250 <= fast.state["deadline"] <= time.monotonic() + 250
    ask = asking(Gate(), slow)
    late = ask("GET", "/api/v1/item/i", headers={"x-request-timeout-ms": "20"})
    assert (code_of(late), "after the 20 ms" in late.json()["message"]) == (10004, True)
    assert ask("POST", "/api/v1/feedback", headers={"x-request-timeout-ms": "20"}).status_code == 200
    assert ask("GET", "/api/v1/item/i").status_code == 200


def test_only_configured_origins_may_ask_and_no_cookie_is_spoken_of() -> None:
    ask = asking(Gate(GuardConfig(origins=("https://shop.example",))), Reached())
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    preflight = ask("OPTIONS", "/api/v1/recommend", headers=asked)
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = ask("POST", "/api/v1/recommend", headers={"origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    for origin in ("https://evil.example", "https://shop.example.evil", "HTTPS://shop.example", "null", "*"):
        other = ask("POST", "/api/v1/recommend", headers={"origin": origin})
        assert "access-control-allow-origin" not in other.headers
        assert other.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers
    closed = asking(Gate(), Reached())("POST", "/api/v1/recommend", headers={"origin": "https://shop.example"})
    assert not [name for name in closed.headers if name.startswith("access-control") or name == "vary"]


def test_a_preflight_needs_no_key_and_anything_else_does(keys: LocalApiKeys, ring: KeyRing) -> None:
    made(keys, ring)
    ask = asking(Gate(GuardConfig(origins=("https://shop.example",)), ring), Reached())
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    assert ask("OPTIONS", "/api/v1/recommend", headers=asked).status_code == 204
    assert code_of(ask("OPTIONS", "/api/v1/recommend", headers={**asked, "origin": "https://evil.example"})) == 20009
    refused = ask("POST", "/api/v1/recommend", headers={"origin": "https://shop.example"})
    assert (code_of(refused), refused.headers["access-control-allow-origin"]) == (20009, "https://shop.example")


def test_a_bug_behind_the_gate_is_an_envelope_too(caplog: pytest.LogCaptureFixture) -> None:
    answer = asking(Gate(), Reached(error=RuntimeError("ada@example.org")))("GET", "/api/v1/item/i")
    assert code_of(answer) == 10000
    assert "ada" not in answer.text
    assert answer.json()["trace_id"] in caplog.text


def test_slow_and_failed_requests_are_told_without_their_ids_and_not_all_of_many(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    monkeypatch.setattr(frame, "time", SimpleNamespace(monotonic=clock.now, perf_counter=time.perf_counter))
    ask = asking(Gate(GuardConfig(slow_ms=1.0)), Reached(seconds=0.005))
    ask("GET", "/api/v1/user/ada@example.org/profile")
    ask("GET", "/secret-ada")
    told = [record.getMessage() for record in caplog.records if record.name == "asterism.access"]
    assert re.fullmatch(r"GET /api/v1/user: 200 after \d+ ms", told[0])
    assert re.fullmatch(r"GET elsewhere: 200 after \d+ ms", told[1])
    for _ in range(30):
        ask("GET", "/healthz")
    assert len([record for record in caplog.records if record.name == "asterism.access"]) == 2
    for _ in range(30):
        ask("POST", "/api/v1/recommend")
    clock.advance(0.5)
    for _ in range(2):
        ask("POST", "/api/v1/recommend")
    told = [record.getMessage() for record in caplog.records if record.name == "asterism.access"]
    assert len(told) == 21, "twenty at once, then two a second"
    assert told[-1].endswith("; 12 more like it were not told")
    quick = asking(Gate(GuardConfig(slow_ms=60_000.0)), Reached())
    caplog.clear()
    quick("GET", "/api/v1/item/i")
    assert not caplog.records


def test_on_other_hosts_a_gate_without_keys_is_refused_and_says_what_to_do() -> None:
    for host in ("0.0.0.0", "192.0.2.7", "::", "shop.example"):
        with pytest.raises(ConfigError, match=r"listening on .* `asterism keys create`.*keys = \"off\""):
            gate_over(GuardConfig(), LocalApiKeys(), LocalRateLimits(SystemClock()), host)
    off = gate_over(GuardConfig(keys="off"), LocalApiKeys(), LocalRateLimits(SystemClock()), "0.0.0.0")
    assert asking(off, Reached(), "shop.example")("POST", "/api/v1/recommend").status_code == 200
    held = LocalApiKeys()
    held.add(new_key("x", frozenset(SCOPES), NOW).key)
    gate = gate_over(GuardConfig(), held, LocalRateLimits(SystemClock()), "0.0.0.0")
    assert code_of(asking(gate, Reached(), "shop.example")("POST", "/api/v1/recommend")) == 20009
    gate.close()
    with pytest.raises(ConfigError, match=r"`guard.key_per_second.reed` is no scope; known here: recommend"):
        gate_over(GuardConfig(key_per_second={"reed": 1}), LocalApiKeys(), LocalRateLimits(SystemClock()), "::1")
    assert all(map(is_loopback, ("localhost", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("::", "0.0.0.0", "10.0.0.1", "localhost.example")))
