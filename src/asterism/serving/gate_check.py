"""Whether a gateway may be reached by others: asked by whoever starts one, before anything is loaded."""

from __future__ import annotations

from contextlib import closing

from asterism.config.guard import GuardConfig
from asterism.config.stores import StoresConfig
from asterism.core.errors import ConfigError
from asterism.serving.http.listening import is_loopback
from asterism.stores.opening import open_keys


def check_gate(config: GuardConfig, stores: StoresConfig, host: str) -> None:
    """Raises `ConfigError` where others could come in without a key, `StorageError` where that cannot be known."""
    if config.keys == "off" or is_loopback(host):
        return
    with closing(open_keys(stores.catalogue, stores.timeout_seconds)) as keys:
        refuse_open(host, has_keys=bool(keys.all()))


def refuse_open(host: str, has_keys: bool) -> None:
    """Raises `ConfigError` for a host that others reach, where there is no key."""
    if not has_keys and not is_loopback(host):
        raise ConfigError(
            f"listening on {host} lets others in, and there is no API key yet; make one with `asterism keys create`, "
            'or set keys = "off" in [guard] of the deployment\'s file where something in front asks for them'
        )
