"""The rows of the ablation table: each a name and one change of the recipe. To add one, add a line to ROWS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from asterism.config import RunConfig, parse_run_config
from asterism.core.errors import ConfigError

Changes = dict[str, Any]  # "section.key" → value

DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Turned:
    """The other way round than the recipe has it: `off` if it is on, `on` if it is off."""

    on: Any = True
    off: Any = False


@dataclass(frozen=True, slots=True)
class Times:
    """So many times the recipe's value."""

    factor: float


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    name: str
    change: Changes = field(default_factory=dict)
    needs: str | None = None  # a key of SENTENCES


ITEM_ALONE: Final = {"decoding.choose_weights": False, "decoding.content_weight": 0.0}
CODES_ALONE: Final = {**ITEM_ALONE, "decoding.item_weight": 0.0, "decoding.code_weight": 1.0}
EVENT_PARTS: Final = dict.fromkeys(
    (f"model.{one}" for one in ("actions", "values", "time_gaps", "contexts", "asked", "user_attributes")), True
)

ROWS: Final = (
    Row(DEFAULT),
    # What is told of an event, and of who asks
    Row("event actions", {"model.actions": Turned()}, needs="actions"),
    Row("event values", {"model.values": Turned()}, needs="values"),
    Row("time gaps", {"model.time_gaps": Turned()}),
    Row("scene and device", {"model.contexts": Turned()}, needs="contexts"),
    Row("asked moment", {"model.asked": Turned()}),
    Row("asked moment, scene and device", {"model.asked": True, "model.contexts": True}, needs="contexts"),
    Row("user attributes", {"model.user_attributes": Turned()}, needs="attributes"),
    Row("Group Layer Norm", {"model.group_norm": Turned()}),
    Row("all event parts", EVENT_PARTS),
    Row("all event parts, Group Layer Norm", {**EVENT_PARTS, "model.group_norm": True}),
    # The transformer
    Row("no feed-forward", {"model.experts": 0}),
    Row("1 expert, a plain feed-forward", {"model.experts": 1}),
    Row("4 experts, top 2", {"model.experts": 4, "model.expert_top_k": 2}),
    Row("8 experts, top 1", {"model.experts": 8, "model.expert_top_k": 1}),
    Row("8 windows of older events", {"model.summaries": Turned(8, 0)}, needs="older events"),
    Row("1 block", {"model.blocks": 1}),
    Row("2 blocks", {"model.blocks": 2}),
    Row("3 blocks", {"model.blocks": 3}),
    Row("1 head", {"model.heads": 1}),
    Row("2 heads", {"model.heads": 2}),
    Row("4 heads", {"model.heads": 4}),
    Row("half the width", {"model.width": Times(0.5)}),
    Row("double the width", {"model.width": Times(2)}),
    Row("5 events read", {"model.max_events": 5}),
    Row("10 events read", {"model.max_events": 10}),
    Row("20 events read", {"model.max_events": 20}),
    Row("50 events read", {"model.max_events": 50}),
    Row("100 events read", {"model.max_events": 100}),
    Row("id vectors", {"model.id_vectors": Turned()}),
    Row("content", {"model.content": Turned()}),
    # The loss
    Row("no code loss", {"training.code_loss_weight": 0.0}),
    Row("no item loss, answers by codes", {"training.item_loss_weight": 0.0, **CODES_ALONE}),
    Row("alignment", {"training.alignment_weight": Turned(0.1, 0.0)}),
    Row("preference", {"training.preference_weight": Turned(0.1, 0.0)}, needs="pairs"),
    Row("full softmax", {"training.negatives": 0, "training.negative_sampling": "uniform"}),
    Row("512 uniform negatives", {"training.negatives": 512, "training.negative_sampling": "uniform"}),
    Row("uniform negatives", {"training.negative_sampling": "uniform"}, needs="sampling"),
    Row("popular negatives, logQ", {"training.negative_sampling": "popularity"}, needs="sampling"),
    Row("negatives in batch, logQ", {"training.negative_sampling": "in_batch"}, needs="sampling"),
    Row("mixed negatives, logQ", {"training.negative_sampling": "mixed"}, needs="sampling"),
    Row("temperature 0.03", {"training.temperature": 0.03}),
    Row("temperature 0.05", {"training.temperature": 0.05}),
    Row("temperature 0.07", {"training.temperature": 0.07}),
    Row("temperature 0.1", {"training.temperature": 0.1}),
    Row("temperature 0.2", {"training.temperature": 0.2}),
    # The final order; these rows ask the default's model again
    Row("weights chosen on validation", {"decoding.choose_weights": Turned()}),
    Row("ordered by items alone", {**ITEM_ALONE, "decoding.item_weight": 1.0, "decoding.code_weight": 0.0}),
    Row("ordered by codes alone", CODES_ALONE),
    Row("ordered by content alone", {**ITEM_ALONE, "decoding.item_weight": 0.0, "decoding.content_weight": 1.0}),
    Row("code weight 0.5", {"decoding.choose_weights": False, "decoding.code_weight": 0.5}),
    Row("content weight 5", {"decoding.choose_weights": False, "decoding.content_weight": 5.0}),
    # Semantic ids; the last level is the de-duplicating one
    Row("1 level and the last", {"semantic_ids.levels": 2}),
    Row("2 levels and the last", {"semantic_ids.levels": 3}),
    Row("3 levels and the last", {"semantic_ids.levels": 4}),
    Row("4 levels and the last", {"semantic_ids.levels": 5}),
    Row("64 codes a level", {"semantic_ids.codes": 64}),
    Row("128 codes a level", {"semantic_ids.codes": 128}),
    Row("256 codes a level", {"semantic_ids.codes": 256}),
    Row("512 codes a level", {"semantic_ids.codes": 512}),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rows ask of a data set."""

    items: int
    longest_history: int  # events of a training history or of a case's
    different_actions: int  # among the training events
    has_values: bool
    has_contexts: bool
    has_attributes: bool
    pairs: int  # of what was acted on and what was passed over


SENTENCES: Final = {
    "actions": "all training events are of one kind of action",
    "values": "no training event has a value",
    "contexts": "the interactions have neither scene nor device",
    "attributes": "there is no users table with shared attributes",
    "pairs": "no user did more for one item than for another within half an hour",
    "older events": "no history is longer than the {max_events} events that are read one by one",
    "sampling": "the item loss takes the whole catalogue of {items} items",
}


def changed(recipe: RunConfig, row: Row) -> tuple[RunConfig, Changes]:
    """The recipe with the row's change, and those keys of it whose values really differ.

    Raises `ConfigError` where the change does not fit the recipe.
    """
    raw = recipe.model_dump()
    made: Changes = {}
    for key, wanted in row.change.items():
        section, name = key.split(".")
        before = raw[section][name]
        value = _resolved(wanted, before)
        if value != before:
            raw[section][name] = made[key] = value
    return parse_run_config(raw, source=f"the row {row.name!r}"), made


def reason_to_skip(recipe: RunConfig, row: Row, facts: Facts) -> str | None:
    """Why a row would tell nothing about these data, in a sentence; None where it is to be measured."""
    if row.needs is not None and not _is_there(row.needs, recipe, facts):
        max_events = recipe.model.max_events
        return SENTENCES[row.needs].format(max_events=max_events, items=f"{facts.items:,}")
    try:
        config, made = changed(recipe, row)
    except ConfigError as error:
        return str(error)
    if row.name != DEFAULT and not made:
        return "this is what the recipe has"
    if set(made) == {"training.negatives"} and min(_negatives(config, facts), _negatives(recipe, facts)) >= facts.items:
        return SENTENCES["sampling"].format(items=f"{facts.items:,}")
    shorter = min(config.model.max_events, recipe.model.max_events)
    if set(made) == {"model.max_events"} and facts.longest_history <= shorter:
        return f"no history is longer than {shorter} events"
    return None


def recipe_has(recipe: RunConfig, row: Row) -> str:
    """For the column "default?": on or off for what the row switches, the recipe's value for what it sets."""
    raw = recipe.model_dump()
    cells = []
    for key in changed(recipe, row)[1]:
        section, name = key.split(".")
        before, wanted = raw[section][name], row.change[key]
        if isinstance(wanted, Turned):
            cells.append("off" if before == wanted.off else "on")
        else:
            cells.append({True: "on", False: "off"}[before] if isinstance(before, bool) else f"{before}")
    return ", ".join(dict.fromkeys(cells)) or "–"


def _resolved(wanted: Any, before: Any) -> Any:
    if isinstance(wanted, Turned):
        return wanted.on if before == wanted.off else wanted.off
    if isinstance(wanted, Times):
        return type(before)(before * wanted.factor)
    return wanted


def _is_there(need: str, recipe: RunConfig, facts: Facts) -> bool:
    return {
        "actions": facts.different_actions > 1,
        "values": facts.has_values,
        "contexts": facts.has_contexts,
        "attributes": facts.has_attributes,
        "pairs": facts.pairs > 0,
        "older events": facts.longest_history > recipe.model.max_events,
        "sampling": _negatives(recipe, facts) < facts.items,
    }[need]


def _negatives(config: RunConfig, facts: Facts) -> int:
    """How many items stand against a target; the whole catalogue where that is what 0 or a larger number means."""
    wanted = config.training.negatives
    return facts.items if wanted == 0 else min(wanted, facts.items)
