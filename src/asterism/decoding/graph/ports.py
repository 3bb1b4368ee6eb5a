"""What goes into a graph and what comes out: names, types, axes and meanings, by what the model reads."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from asterism.config import ModelConfig

#: Axes whose length a call decides; all others are numbers.
BATCH: Final = "batch"


class Port(NamedTuple):
    """One input or output of a graph."""

    name: str
    dtype: Literal["int32", "int64", "float32"]
    axes: tuple[str | int, ...]
    meaning: str


def history_ports(config: ModelConfig) -> tuple[Port, ...]:
    """The inputs that tell a history to a model of this configuration; every axis may differ from call to call."""
    ports = [
        _event("items", "item index, the newest event last; -1 where padded"),
        _event("timestamps", "Unix seconds; 0 where padded"),
    ]
    if config.actions or config.values:
        ports.append(_event("actions", "place in the list `actions` of this metadata; 0 where padded"))
    if config.values:
        ports.append(Port("values", "float32", (BATCH, "events"), "rating or dwell seconds; NaN for none"))
    if config.contexts:
        ports += [_event(name, f"code of the {name[:-1]}; 0 for none") for name in ("scenes", "devices")]
    if config.asked:
        ports.append(_row("asked_timestamps", "Unix seconds of the request; -1 where not known"))
    if config.asked and config.contexts:
        ports += [_row(f"asked_{name}s", f"code of the request's {name}; 0 for none") for name in ("scene", "device")]
    if config.user_attributes:
        ports.append(Port("attributes", "int64", (BATCH, "attributes"), "codes of the user's attributes; 0 for none"))
    if config.summaries:
        ports += [
            _older("older_items", f"item index of events older than the newest {config.max_events}, newest last; -1"),
            _older("older_timestamps", "their Unix seconds; 0"),
        ]
    return tuple(ports)


def _event(name: str, meaning: str) -> Port:
    return Port(name, "int64", (BATCH, "events"), meaning)


def _row(name: str, meaning: str) -> Port:
    return Port(name, "int64", (BATCH,), meaning)


def _older(name: str, meaning: str) -> Port:
    return Port(name, "int64", (BATCH, "older_events"), f"{meaning} where padded")
