"""Keys from the command line to a running service and back: made, used, replaced, revoked."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asterism.cli.main import app
from asterism.core.errors import ConfigError, UnknownIdError
from serving.running import ENGINE, RUN_SECONDS, Server, command, environment, wait_until

TOKEN = re.compile(r"^(ast_([0-9a-f]{12})_\S+)$", re.MULTILINE)


def keys(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def created(state: Path, *scopes: str) -> tuple[str, str]:
    """A token and its id."""
    options = [word for scope in scopes for word in ("--scope", scope)]
    found = TOKEN.search(keys("create", "--state", str(state), "--name", "shop", *options))
    assert found
    return found[1], found[2]


def test_a_key_is_asked_for_replaced_and_revoked_while_the_service_runs(bundle: Path, tmp_path: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "server.log"
    token, key_id = created(state, "recommend", "feedback")
    with Server(bundle, state, "--log-format", "json", log=log) as server:

        def status(token: str | None, path: str = "/api/v1/item/lamps-00") -> int:
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            return server.http.get(path, headers=headers).status_code

        assert [status(None), status(token), status(token[:-1])] == [401, 200, 401]
        assert status(token, "/api/v1/user/ada@example.org/profile") == 403
        assert status(None, "/openapi.json") == 200
        replaced = TOKEN.search(keys("rotate", key_id, "--state", str(state)))
        assert replaced
        wait_until(lambda: status(replaced[1]) == 200)
        assert status(token) == 200, "both hold for a while"
        keys("revoke", key_id, "--state", str(state))
        wait_until(lambda: status(token) == 401)
        assert status(replaced[1]) == 200
        assert server.http.get("/readyz?x=ada@example.org").status_code == 200
    listed = keys("list", "--state", str(state))
    assert re.search(rf"{key_id}\s+revoked", listed)
    assert re.search(rf"{replaced[2]}\s+holds", listed)
    assert token[17:] not in listed
    told = log.read_text()
    told = re.sub(
        r"^engine \| a library prints while it loads\n", "", told, flags=re.MULTILINE
    )  # the test's engine does
    assert all(json.loads(line)["role"] for line in told.splitlines())
    assert not re.search(r"\bada\b|ast_[0-9a-f]", told)


def test_others_are_not_let_in_without_a_key(bundle: Path, tmp_path: Path) -> None:
    arguments = ("--bundle", str(bundle), "--state", str(tmp_path / "s"), "--port", "0", "--engine", ENGINE)
    result = subprocess.run(
        command(*arguments, "--host", "0.0.0.0"), env=environment(), capture_output=True, text=True, timeout=RUN_SECONDS
    )
    assert result.returncode == 2
    assert "listening on 0.0.0.0 lets others in, and there is no API key yet" in result.stderr
    assert "http://" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["list"], ConfigError, "say whose keys"),
        (["list", "--state", "s", "--config", "c"], ConfigError, "say whose keys"),
        (["create", "--state", "s", "--name", "x", "--scope", "reed"], ConfigError, "'reed' is no scope; give one of"),
        (["create", "--state", "s", "--name", " ", "--scope", "all"], ConfigError, "a key's name"),
        (
            ["create", "--state", "s", "--name", "x", "--scope", "all", "--expires", "3y"],
            ConfigError,
            "'3y' is no length",
        ),
        (["revoke", "nobody", "--state", "s"], UnknownIdError, "there is no API key 'nobody'"),
        (["rotate", "nobody", "--state", "s"], UnknownIdError, "there is no API key 'nobody'"),
        (["rotate", "nobody", "--state", "s", "--grace", "never"], ConfigError, "--grace"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    arguments: list[str], error: type[Exception], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    created(Path("s"), "all")
    with pytest.raises(error, match=re.escape(sentence)):
        CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False)


@pytest.mark.parametrize("name", ["state", "50%20 of #1"])
def test_a_new_catalogue_is_told_of_once(name: str, tmp_path: Path) -> None:
    create = ("create", "--state", str(tmp_path / name), "--name", "shop", "--scope", "all")
    first, second = keys(*create), keys(*create)
    assert first.startswith(f"made a new catalogue in {tmp_path / name}, where no service ran yet")
    assert "new catalogue" not in second


@pytest.mark.parametrize("arguments", [("list",), ("revoke", "9eb2262ce2e1"), ("rotate", "9eb2262ce2e1")])
def test_a_place_without_keys_is_named_and_not_made(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "deployment.toml").write_text(f"[stores]\ncatalogue = 'sqlite:///{tmp_path / 'typo'}/catalogue.db'\n")
    for place in (("--state", str(tmp_path / "typo")), ("--config", str(tmp_path / "deployment.toml"))):
        with pytest.raises(
            ConfigError, match=r"typo/catalogue\.db is not there, so it holds no key; name the place of"
        ):
            keys(*arguments, *place)
    assert not (tmp_path / "typo").exists()


def test_a_key_that_is_over_is_not_replaced(tmp_path: Path) -> None:
    _, key_id = created(tmp_path, "all")
    keys("revoke", key_id, "--state", str(tmp_path))
    with pytest.raises(ConfigError, match="is over already"):
        keys("rotate", key_id, "--state", str(tmp_path))
