"""The ablation table, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from ablation.intervals import CUTOFF, PARTS, Difference, Ranking, paired_difference
from ablation.measuring import ORDERS
from ablation.rows import Changes

Line = dict[str, Any]

NO_FIGURE = "–"


def with_differences(rows: Iterable[Line], rankings: dict[str, Ranking], against: str, by: str) -> list[Line]:
    """Each row with what it gains over `against` in the order `by`; the row itself first, then by validation."""
    lines = []
    for row in rows:
        gains: dict[str, Difference | None] = dict.fromkeys(PARTS)
        if against in rankings and row["row"] != against:
            gains = {part: gain(rankings[row["row"]], rankings[against], part, by, row["seed"]) for part in PARTS}
        lines.append({**row, "gains": gains})
    return sorted(lines, key=lambda line: (line["row"] != against, -_mean(line["gains"]["validation"])))


def gain(ours: Ranking, theirs: Ranking, part: str, by: str, seed: int) -> Difference:
    """NDCG@10 of one part in one order against another row's."""
    return paired_difference(ours[f"{part}_{by}"], theirs[f"{part}_{by}"], ours[f"{part}_users"], seed)


def markdown(lines: list[Line], skipped: dict[str, str], heading: str, against: str, by: str) -> str:
    """The whole table, with the rows that were left out below it."""
    gains = [f"Δ {part} NDCG@{CUTOFF}, {by} [95 %]" for part in PARTS]
    scores = [f"{part}, {order}" for part in PARTS for order in ORDERS]
    head = ["row", "change", "default?", *gains, *scores, "best of epochs", "CPU min", "parameters"]
    text = [
        f"{heading} Differences to `{against}`, sorted by validation; in bold where the interval leaves out zero. "
        f"Scores are Recall@{CUTOFF}/NDCG@{CUTOFF}, the history excluded: as served, all items ranked by the item "
        "head, and the beam by code log-probability alone.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *("| " + " | ".join(_cells(line)) + " |" for line in lines),
    ]
    if skipped:
        text += ["", "Left out:", "", *(f"* {name}: {why}" for name, why in skipped.items())]
    return "\n".join(text) + "\n"


def show(lines: list[Line], console: Console, by: str) -> None:
    """The table so far, with as many columns as a terminal has room for."""
    table = Table("row", "default?", *(f"Δ {part}" for part in PARTS), *(f"{part} {by}" for part in PARTS))
    table.add_column("best of epochs")
    table.add_column("CPU min")
    for line in lines:
        scores = [_score(line[part][by]) for part in PARTS]
        gains = [plain(line["gains"][part]) for part in PARTS]
        table.add_row(line["row"], line["default"], *gains, *scores, _epochs(line), _cost(line))
    console.print(table)


def plain(found: Difference | None) -> str:
    """A difference and its interval; a dash for the row that all are compared with."""
    return NO_FIGURE if found is None else f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _cells(line: Line) -> list[str]:
    gains = [line["gains"][part] for part in PARTS]
    told = [f"**{plain(one)}**" if one is not None and one.is_clear else plain(one) for one in gains]
    scores = [_score(line[part][order]) for part in PARTS for order in ORDERS]
    costs = [_epochs(line), _cost(line), f"{line['parameters']:,}"]
    return [line["row"], _told(line["changes"]), line["default"], *told, *scores, *costs]


def _told(changes: Changes) -> str:
    told = (f"`{key} = {str(value).lower() if isinstance(value, bool) else value}`" for key, value in changes.items())
    return ", ".join(told) or NO_FIGURE


def _score(one: dict[str, float]) -> str:
    return f"{one['recall']:.4f}/{one['ndcg']:.4f}"


def _epochs(line: Line) -> str:
    return f"{line['best_epoch']}/{line['epochs']}"


def _cost(line: Line) -> str:
    """CPU minutes of training, of a row that was trained."""
    return f"{line['cpu_minutes']:.1f}" if line["model_of"] == line["row"] else NO_FIGURE


def _mean(found: Difference | None) -> float:
    return 0.0 if found is None else found.mean
