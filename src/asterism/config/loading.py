"""From TOML to typed settings, with errors that name the key and list the ones there are."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from asterism.config.reranking import RerankingConfig
from asterism.config.run import RunConfig
from asterism.config.section import Section
from asterism.core.errors import ConfigError

Settings = TypeVar("Settings", bound=Section)


def load_run_config(path: Path) -> RunConfig:
    """Read a run configuration; raises `ConfigError` naming the file, the key and what is allowed."""
    return parse_run_config(_read(path, "`asterism init` writes one"), source=str(path))


def load_reranking_config(path: Path) -> RerankingConfig:
    """Read how slates are made; raises `ConfigError` naming the file, the key and what is allowed."""
    return parse_reranking_config(_read(path, "configs/serving/reranking.toml is one to start from"), source=str(path))


def parse_run_config(raw: dict[str, Any], source: str = "configuration") -> RunConfig:
    """Check a run configuration given as plain values; raises `ConfigError`."""
    return _parse(RunConfig, raw, source)


def parse_reranking_config(raw: dict[str, Any], source: str = "configuration") -> RerankingConfig:
    """Check given as plain values how slates are made; raises `ConfigError`."""
    return _parse(RerankingConfig, raw, source)


def _read(path: Path, hint: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; {hint}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name a configuration file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _parse(model: type[Settings], raw: dict[str, Any], source: str) -> Settings:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = [explain({**one}, model) for one in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from error


def explain(error: dict[str, Any], whole: type[BaseModel]) -> str:
    """One error of pydantic as a clause: the key, what is wrong with it, and what is allowed."""
    place = [str(step) for step in error["loc"]]
    key = ".".join(place) or "the whole"
    if error["type"] == "extra_forbidden":
        known = _known_keys(place[:-1], whole)
        close = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"did you mean `{close[0]}`? " if close else ""
        return f"`{key}` is not a key; {hint}known here: {', '.join(known)}"
    if error["type"] == "missing":
        return f"`{key}` is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict) else f", but it is {error['input']!r}"
    return f"`{key}`: {message}{given}"


def _known_keys(place: list[str], whole: type[BaseModel]) -> list[str]:
    model = whole
    for step in place:
        if step.isdigit():  # a place in a list, whose entries are of the model found already
            continue
        inner: Any = model.model_fields[step].annotation if step in model.model_fields else None
        inner = next(iter(get_args(inner)), inner)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return sorted(model.model_fields)
