"""`asterism keys`: who may ask a service."""

from __future__ import annotations

import re
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from asterism.core.errors import ConfigError

if TYPE_CHECKING:
    from asterism.stores.api_keys import ApiKey, ApiKeys

app = typer.Typer(help="API keys: make, list, replace and revoke them.", no_args_is_help=True)

_UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
_NEVER = "never"
_FILE = "sqlite:///"

Config = Annotated[Path | None, typer.Option(help="The deployment's file, whose catalogue holds the keys.")]
State = Annotated[Path | None, typer.Option(help="The state folder of a service on this machine.")]
Scopes = Annotated[list[str], typer.Option("--scope", help="What the key may do, once or often; `all` is everything.")]
Expires = Annotated[str, typer.Option(help="After how long the key ends: 12h, 90d, 52w or never.")]
KeyId = Annotated[str, typer.Argument(help="The id of the key, as `list` shows it.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose key it is, for people.")],
    scope: Scopes,
    config: Config = None,
    state: State = None,
    expires: Expires = "52w",
) -> None:
    """Make a key; the token is shown once and kept nowhere."""
    from asterism.serving.http.scopes import SCOPES
    from asterism.stores.api_keys import new_key

    scopes = frozenset(SCOPES) if "all" in scope else frozenset(scope)
    unknown = sorted(scopes - set(SCOPES))
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is no scope; give one of {', '.join(SCOPES)}, or all")
    if not name.strip() or not name.isprintable():
        raise ConfigError("a key's name is printable text that tells whose it is; give --name")
    now = time.time()
    made = new_key(name.strip(), scopes, now, _end(expires, now))
    with closing(_opened(config, state, may_be_new=True)) as keys:
        keys.add(made.key)
    _show(made.token, made.key)


@app.command("list")
def list_command(config: Config = None, state: State = None) -> None:
    """List all keys, oldest first; no token is kept, so none is shown."""
    with closing(_opened(config, state)) as keys:
        found = keys.all()
    if not found:
        print("there is no key yet; `asterism keys create` makes one")
        return
    now = time.time()
    rows = [("id", "state", "made", "ends", "last used", "name", "scopes")]
    for key in found:
        times = (_when(key.created_at), _when(key.expires_at), _when(key.last_used_at))
        rows.append((key.key_id, _state_of(key, now), *times, key.name, " ".join(sorted(key.scopes))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def revoke(key_id: KeyId, config: Config = None, state: State = None) -> None:
    """End a key for ever; it holds nowhere any more after two seconds."""
    with closing(_opened(config, state)) as keys:
        keys.revoke(key_id, int(time.time()))
    print(f"{key_id} is revoked; running services know it within two seconds")


@app.command()
def rotate(
    key_id: KeyId,
    config: Config = None,
    state: State = None,
    grace: Annotated[str, typer.Option(help="How long the old token still holds: 0h, 12h, 7d.")] = "24h",
    expires: Expires = "52w",
) -> None:
    """Make a key with the name and scopes of another, which ends after a while."""
    from asterism.stores.api_keys import new_key, unknown

    now = time.time()
    ends = _end(grace, now)
    if ends is None:
        raise ConfigError("a key that never ends is not replaced; give --grace as 0h, 12h or 7d")
    with closing(_opened(config, state)) as keys:
        old = next((key for key in keys.all() if key.key_id == key_id), None)
        if old is None:
            raise unknown(key_id)
        if old.is_over(now):
            raise ConfigError(f"key {key_id} is over already; make a new one with `asterism keys create`")
        made = new_key(old.name, old.scopes, now, _end(expires, now))
        keys.add(made.key)
        keys.expire(key_id, ends)
    _show(made.token, made.key)
    print(f"{key_id} ends at {_when(min(ends, old.expires_at or ends))}")


def _opened(config: Path | None, state: Path | None, *, may_be_new: bool = False) -> ApiKeys:
    from asterism.config.stores import StoresConfig, load_deployment
    from asterism.stores.opening import open_keys

    if (config is None) == (state is None):
        raise ConfigError("say whose keys: --config with the deployment's file, or --state with a service's folder")
    stores = load_deployment(config).stores if config is not None else StoresConfig.embedded(state or Path())
    missing = _missing_file(stores.catalogue)
    if missing is not None and not may_be_new:
        raise ConfigError(
            f"{missing} is not there, so it holds no key; name the place of a service, "
            "or make the first key with `asterism keys create`"
        )
    keys = open_keys(stores.catalogue, stores.timeout_seconds)
    if missing is not None:
        print(f"made a new catalogue in {missing.parent}, where no service ran yet: the key holds for those that will")
    return keys


def _missing_file(catalogue: str) -> Path | None:
    """Where a catalogue in a file would be made anew."""
    if not catalogue.startswith(_FILE):
        return None
    file = Path(unquote(catalogue.removeprefix(_FILE).partition("?")[0]))
    return None if file.exists() else file


def _end(after: str, now: float) -> int | None:
    if after == _NEVER:
        return None
    found = re.fullmatch(r"(\d{1,5})([hdw])", after)
    if found is None:
        raise ConfigError(f"{after!r} is no length of time; write it as 12h, 90d, 52w or never")
    return int(now) + int(found[1]) * _UNITS[found[2]]


def _show(token: str, key: ApiKey) -> None:
    print(f"key {key.key_id} ({key.name}): {', '.join(sorted(key.scopes))}; ends {_when(key.expires_at)}")
    print(token)
    print("this is the only time that the token is shown; send it as `Authorization: Bearer …`")


def _when(seconds: int | None) -> str:
    return _NEVER if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _state_of(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.is_over(now) else "holds"
