"""Where a store is, as one line of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from asterism.core.errors import ConfigError


class Address(NamedTuple):
    """A host with a port."""

    host: str
    port: int


class Login(NamedTuple):
    """Who one is to a store; what a URL writes as `%40` is `@`."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A parsed store URL: `memory`, `file:folder`, `redis://user:password@host:6379/0?prefix=shop`."""

    text: str
    scheme: str
    rest: str  # what follows `scheme:`, without `//` and options
    options: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Split a URL; raises `ConfigError` where it has no scheme."""
        scheme, colon, rest = text.partition(":")
        if not scheme or scheme != scheme.strip() or "/" in scheme:
            raise ConfigError(f"{text!r} is no store URL; write it like 'redis://host:6379/0' or 'file:folder'")
        if not colon:
            return cls(text, scheme, "", {})
        rest, _, query = rest.partition("?")
        return cls(text, scheme, rest.removeprefix("//"), dict(parse_qsl(query, keep_blank_values=True)))

    @property
    def shown(self) -> str:
        """The URL for people and logs: passwords and secrets hidden."""
        before, at, after = self.text.partition("?")[0].rpartition("@")
        if not at:
            return after
        scheme, _, secret = before.partition("://")
        user = secret.partition(":")[0]
        return f"{scheme}://{user}:***@{after}" if ":" in secret else f"{scheme}://{user}@{after}"

    def path(self) -> Path:
        """The rest as a local path; raises `ConfigError` where there is none."""
        if not self.rest:
            raise ConfigError(f"{self.shown!r} names no folder; write it like '{self.scheme}:/var/lib/asterism'")
        return Path(unquote(self.rest))

    def option(self, name: str, default: str) -> str:
        """An option of the query part."""
        return self.options.get(name, default)

    def only(self, *known: str) -> None:
        """Raise `ConfigError` for an option that the store does not know."""
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            allowed = ", ".join(known) or "none"
            raise ConfigError(f"{self.shown!r} has an unknown option {unknown[0]!r}; known here: {allowed}")

    def login(self) -> Login:
        """User and password; empty where there are none."""
        user, _, password = self.rest.rpartition("@")[0].partition(":")
        return Login(unquote(user), unquote(password))

    def address(self, default_port: int) -> Address:
        """Host and port; raises `ConfigError` where there is no host."""
        try:
            parts = urlsplit(self.text)
            host, port = parts.hostname, parts.port or default_port
        except ValueError:
            host, port = None, 0
        if not host:
            raise ConfigError(
                f"{self.shown!r} names no host and port; write it like '{self.scheme}://host:{default_port}'"
            )
        return Address(host, port)
