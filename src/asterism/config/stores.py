"""Where each store is, as URLs: `[stores]` of a deployment's file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote

from pydantic import Field, ValidationError, field_validator, model_validator

from asterism.config.guard import GuardConfig
from asterism.config.loading import explain
from asterism.config.section import Section
from asterism.core.errors import ConfigError

Seconds = Annotated[float, Field(gt=0.0, le=600.0)]

#: The kinds of URL that each store takes: the embedded one first.
SCHEMES: dict[str, tuple[str, ...]] = {
    "catalogue": ("sqlite:///", "postgresql://", "postgresql+psycopg://"),
    "state": ("memory", "redis://", "rediss://", "redis+cluster://"),
    "bus": ("local:", "kafka://"),
    "history": ("chdb:", "clickhouse://"),
    "vectors": ("exact", "milvus://"),
    "blobs": ("file:", "s3://"),
}


_HOST = re.compile(r"(\[[0-9a-fA-F:.]+(%[^\[\]]+)?\]|[^\[\]:]*)(:(?P<port>\d{0,5}))?")


class StoresConfig(Section):
    """One URL a store; the defaults need nothing but a folder."""

    catalogue: str = "sqlite:///state/catalogue.db"  # items, users, behaviours
    state: str = "memory"  # users' states, slates, rate limits
    bus: str = "local:state/events"  # feedback on its way
    history: str = "chdb:state/history"  # every event, for years
    vectors: str = "exact"  # item vectors
    blobs: str = "file:state/blobs"  # bundles
    timeout_seconds: Seconds = 5.0  # of a call to catalogue, blobs and bus; the hot state gets a fifth

    @classmethod
    def embedded(cls, folder: Path) -> Self:
        """The defaults, below a folder; raises `ConfigError` where its path is none that all of them can read."""
        if "?" in str(folder):
            raise ConfigError(f"{folder} cannot hold a state, as chDB takes what follows a ? for options; name another")
        below = quote(str(folder))
        catalogue = str(folder).replace("%", "%25")  # SQLAlchemy before 2.1 would read no other escape
        return cls(
            catalogue=f"sqlite:///{catalogue}/catalogue.db",
            bus=f"local:{below}/events",
            history=f"chdb:{below}/history",
            blobs=f"file:{below}/blobs",
        )

    @field_validator("catalogue", "state", "bus", "history", "vectors", "blobs")
    @classmethod
    def _known_kind(cls, value: str, info: Any) -> str:
        known = SCHEMES[info.field_name]
        if not any(value == one or (one[-1] in ":/" and value.startswith(one)) for one in known):
            raise ValueError(f"give one of {', '.join(known)}")
        if not any(all(map(_is_host, hosts)) for hosts in _readings(value)):
            raise ValueError("its host cannot be read; write it like host:5432 or [::1]:5432, with a port up to 65535")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.state == "memory" and not self.bus.startswith("local:"):
            raise ValueError(
                "state = 'memory' is rebuilt from a log on the same machine; "
                "give state a redis:// URL beside this bus, or the bus a local: folder"
            )
        return self


def _readings(url: str) -> list[list[str]]:
    """The hosts that a URL may name, with their ports: a password may hold a `?`, and an option an `@`."""
    behind = url.partition("://")[2]
    if behind.startswith("/"):
        return [[]]
    places = (one.rpartition("@")[2] for one in (behind, behind.partition("?")[0]))
    return [re.split(r"[/?#]", place, maxsplit=1)[0].split(",") for place in places]


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found["port"] or 0) <= 65_535


class DeploymentConfig(Section):
    """What is deployed: stores, the bundle that is served, and who may ask."""

    bundle: str | None = None  # the folder of a bundle
    stores: StoresConfig = StoresConfig()
    guard: GuardConfig = GuardConfig()


def load_deployment(path: Path) -> DeploymentConfig:
    """Read a deployment's file; raises `ConfigError` naming the file, the key and what is allowed, and no password."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name a deployment's file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return DeploymentConfig.model_validate(raw)
    except ValidationError as error:
        lines = [explain({**one, "input": {}}, DeploymentConfig) for one in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(lines)) from error
