"""`asterism data simulate`: a market to try things on, with its truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asterism.data.market import Market


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into; it is made.")],
    users: Annotated[int, typer.Option(help="How many users.")] = 3_000,
    items: Annotated[int, typer.Option(help="How many items.")] = 1_200,
    days: Annotated[int, typer.Option(help="How many days the market runs.")] = 60,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal markets.")] = 0,
) -> None:
    """Simulate a market: interactions, items, users, drawn covers, and the truth behind them."""
    from asterism.data.market import Market, MarketConfig
    from asterism.data.readers.contract import check_output

    check_output(output)
    market = Market.generate(MarketConfig(users=users, items=items, days=days, seed=seed))
    market.save(output)
    _print_summary(market, output)


def _print_summary(market: Market, output: Path) -> None:
    import pyarrow.compute as pc
    from rich.console import Console
    from rich.table import Table

    from asterism.core.records import ACTION, ACTIONS

    log = market.dataset().interactions
    counts = {one["values"]: one["counts"] for one in pc.value_counts(log[ACTION]).to_pylist()}
    table = Table()
    table.add_column("what")
    table.add_column("rows", justify="right")
    for name, count in (("users", len(market.users)), ("items", len(market.items)), ("interactions", log.num_rows)):
        table.add_row(name, f"{count:,}")
    table.add_section()
    for action in ACTIONS:
        table.add_row(action.value, f"{counts.get(action.value, 0):,}")
    Console().print(table)
    print(f"written to {output}")
