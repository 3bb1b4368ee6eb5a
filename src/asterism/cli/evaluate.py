"""`asterism evaluate`: a bundle against the cases of its data set, beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def evaluate(
    bundle: Annotated[Path, typer.Option(help="The bundle that `asterism train` wrote.")],
    split: Annotated[Literal["validation", "test"], typer.Option(help="Which cases to ask.")] = "test",
    json: Annotated[Path | None, typer.Option(help="Write all figures to this JSON file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained report with plots to this file.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data's folder, if it is no longer where training saw it.")
    ] = None,
    mode: Annotated[
        Literal["rescored", "generate", "rank"],
        typer.Option(help="Beam and item head, the beam alone, or the item head over all items."),
    ] = "rescored",
    baselines: Annotated[bool, typer.Option(help="Measure popularity and neighbours beside the model.")] = True,
) -> None:
    """Measure a bundle over all items, with and without the user's history excluded."""
    from asterism.core.bundle import Bundle
    from asterism.data.splits import split_dataset
    from asterism.decoding.bundle_data import data_of_bundle
    from asterism.decoding.loading import load_recommender
    from asterism.evaluation import protocol
    from asterism.evaluation.baselines import default_baselines
    from asterism.evaluation.generated import GeneratedRecommender
    from asterism.evaluation.report import print_table, write_outputs

    trained = load_recommender(Bundle.open(bundle))
    cut = split_dataset(data_of_bundle(trained.bundle, trained.config.data, data), trained.config.data)
    result = protocol.evaluate(
        GeneratedRecommender(f"{trained.config.model.kind.upper()}, {mode}", trained.generator, mode),
        cut,
        split,
        trained.config.evaluation,
        dataset=trained.config.name,
        item_vectors=trained.item_vectors,
        seed=trained.config.seed,
        baselines=default_baselines(cut) if baselines else (),
    )
    print_table(result)
    write_outputs(result, json, html)
