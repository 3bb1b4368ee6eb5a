"""What each part of the recommender is worth: one change of the recipe a row, each trained for the same minutes.

    python benchmarks/ablations.py [--data NAME] [--config FILE] [--minutes 10] [--seed 0] [--only NAME …]
                                   [--rows FILE] [--markdown FILE] [--by ORDER] [--against ROW]

The recipe is the configuration as `asterism init` writes it for the data, or FILE. The rows stand in
ablation/rows.py; those that a data set cannot tell apart are left out with a sentence. Rows that change the final
order only ask the default's model again. With --rows, finished rows are kept in FILE and not made again, and each
case's ranks in FILE.ranks/, from which the intervals are computed against any row. Minutes are of the clock: leave
the machine alone.
"""

from __future__ import annotations

import argparse
import difflib
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ablation.intervals import PARTS, Ranking, load_ranking, save_ranking
from ablation.measuring import ORDERS, World, ask, initial_recipe, keep_model, kept_model, recipe_of, train
from ablation.rows import DEFAULT, ROWS, Row, changed, reason_to_skip, recipe_has
from ablation.table import Line, markdown, show, with_differences
from asterism.config import RunConfig
from asterism.core.errors import AsterismError
from asterism.core.hashing import hash_value
from asterism.data.locating import data_home
from asterism.models.ugt import UGT

USUAL_DATA = "amazon-office-2014"
TRAINING = ("epochs", "best_epoch", "stopped", "cpu_minutes", "train_seconds", "parameters")


@dataclass
class Study:
    """The rows of one recipe on one data set, finished and to come."""

    world: World
    file: Path  # of rows
    threads: int
    done: dict[str, Line] = field(default_factory=dict)
    rankings: dict[str, Ranking] = field(default_factory=dict)
    default_model: UGT | None = None

    def __post_init__(self) -> None:
        self.recipe_hash = hash_value([self.world.recipe.model_dump(mode="json"), self.world.facts.items])[:12]
        self.folder = self.file.with_name(f"{self.file.name}.ranks")
        self.folder.mkdir(parents=True, exist_ok=True)
        for line in self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else ():
            self._take_up(json.loads(line))

    def _take_up(self, line: Line) -> None:
        """A finished row counts if recipe and change are still the same and its ranks are there."""
        row = next((one for one in ROWS if one.name == line["row"]), None)
        if row is None or line["recipe"] != self.recipe_hash or not (self.folder / line["ranks"]).is_file():
            return
        if reason_to_skip(self.world.recipe, row, self.world.facts) is None:
            _, made = changed(self.world.recipe, row)
            if json.loads(json.dumps(made)) == line["changes"]:
                self.done[row.name] = line
                self.rankings[row.name] = load_ranking(self.folder / line["ranks"])

    def measure(self, row: Row) -> None:
        """Train and ask one row, then keep it."""
        config, made = changed(self.world.recipe, row)
        ordered_anew = row.name != DEFAULT and all(key.startswith("decoding.") for key in made)
        model, training = self._default() if ordered_anew else train(self.world, config)
        if row.name == DEFAULT:
            self.default_model = model
            keep_model(model, self._place(row))
        ranking, found = ask(self.world, config, model)
        place = self._place(row).with_suffix(".npz")
        save_ranking(ranking, place)
        line = {
            "data": self.world.recipe.name,
            "row": row.name,
            "changes": made,
            "default": recipe_has(self.world.recipe, row),
            "seed": config.seed,
            "recipe": self.recipe_hash,
            "minutes": config.training.max_minutes,
            "threads": self.threads,
            "commit": commit(),
            "model_of": DEFAULT if ordered_anew else row.name,
            **training,
            **found,
            "ranks": place.name,
        }
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self.done[row.name], self.rankings[row.name] = line, ranking

    def _default(self) -> tuple[UGT, dict[str, Any]]:
        """The default's model, of this sitting or an earlier one, and what its training came to."""
        if self.default_model is None:
            self.default_model = kept_model(self.world, self._place(ROWS[0]))
        return self.default_model, {name: self.done[DEFAULT][name] for name in TRAINING}

    def _place(self, row: Row) -> Path:
        words = "".join(one if one.isalnum() else "-" for one in row.name)
        return self.folder / f"{self.recipe_hash}-{words}.npz"


def commit() -> str:
    """The commit of the code that runs, marked where the working tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def read_arguments() -> argparse.Namespace:
    """The arguments, with their names checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"a folder, or a name under ASTERISM_DATA (default: {USUAL_DATA})")
    parser.add_argument("--config", type=Path, help="the recipe, a TOML file")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training a row, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="rows, beside the default")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="where finished rows are kept")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--by", choices=list(ORDERS), default="served", help="the order that differences are taken of")
    parser.add_argument("--against", metavar="ROW", default=DEFAULT, help="the row that all are compared with")
    arguments = parser.parse_args()
    known = [row.name for row in ROWS]
    for name in [*arguments.only, arguments.against]:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3) or known
            parser.error(f"there is no row {name!r}; did you mean {' or '.join(map(repr, close))}?")
    return arguments


def recipe_from(arguments: argparse.Namespace) -> tuple[RunConfig, Path] | None:
    """The recipe with its budget, and where its relative paths start; None without any data."""
    if arguments.config is not None:
        recipe, folder = recipe_of(arguments.config, arguments.data), arguments.config.parent
    elif arguments.data is not None or (data_home() / USUAL_DATA).is_dir():
        recipe, folder = initial_recipe(arguments.data or USUAL_DATA), Path.cwd()
    else:
        return None
    training = recipe.training.model_copy(update={"max_minutes": arguments.minutes})
    return recipe.model_copy(update={"seed": arguments.seed, "training": training}), folder


def run(study: Study, only: list[str], against: str, by: str) -> tuple[list[Line], dict[str, str]]:
    """Measure what is missing, showing the table as it grows; the lines, and why other rows are left out."""
    recipe, facts = study.world.recipe, study.world.facts
    chosen = [row for row in ROWS if not only or row.name in {DEFAULT, against, *only}]
    reasons = {row.name: reason_to_skip(recipe, row, facts) for row in chosen}
    skipped = {name: why for name, why in reasons.items() if why is not None}
    missing = [row for row in chosen if row.name not in skipped and row.name not in study.done]
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 180)
    said = f"{len(study.done)} rows are done, {len(missing)} to come"
    console.print(f"{recipe.name}: {said}, at most {recipe.training.max_minutes:g} minutes of training each")
    for row in missing:
        console.print(f"row: {row.name}", highlight=False)
        try:
            study.measure(row)
        except AsterismError as error:
            if row.name == DEFAULT:
                raise
            skipped[row.name] = f"failed: {error}"
            continue
        show(lines_of(study, chosen, against, by), console, by)
    return lines_of(study, chosen, against, by), skipped


def lines_of(study: Study, chosen: list[Row], against: str, by: str) -> list[Line]:
    """The finished rows among those chosen, compared and sorted."""
    finished = [study.done[row.name] for row in chosen if row.name in study.done]
    return with_differences(finished, study.rankings, against, by)


def main() -> None:
    """Measure what is not in the file of rows yet, then write the table."""
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    summary: dict[str, Any] = {"benchmark": "ablations", "minutes": arguments.minutes, "seed": arguments.seed}
    try:
        found = recipe_from(arguments)
        if found is None:
            print(f"{USUAL_DATA} is not under {data_home()}; name a data set with --data", file=sys.stderr)
            print(json.dumps({**summary, "rows": []}))
            return
        world = World(*found)
        with tempfile.TemporaryDirectory() as scratch:
            study = Study(world, arguments.rows or Path(scratch) / "rows.jsonl", arguments.threads)
            lines, skipped = run(study, arguments.only, arguments.against, arguments.by)
    except AsterismError as error:
        raise SystemExit(str(error)) from error
    heading = (
        f"{world.recipe.name}, seed {arguments.seed}, at most {arguments.minutes:g} minutes of training a row on "
        f"{arguments.threads} thread(s), commit {commit()}."
    )
    text = markdown(lines, skipped, heading, arguments.against, arguments.by)
    print(text)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")
    rows = [{**line, "gains": {part: line["gains"][part] for part in PARTS}} for line in lines]
    summary |= {"data": world.recipe.name, "recipe": study.recipe_hash, "by": arguments.by}
    print(json.dumps({**summary, "against": arguments.against, "rows": rows, "skipped": skipped}))


if __name__ == "__main__":
    main()
