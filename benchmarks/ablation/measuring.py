"""Trains one row and asks it: as it is served, by ranking all items, and by the beam alone."""

from __future__ import annotations

import sys
import tempfile
import time
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ablation.intervals import CUTOFF, PARTS, Ranking
from ablation.rows import Facts
from asterism.config import RunConfig, load_run_config, parse_run_config
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.initial_config import render_config
from asterism.data.initialise import choose
from asterism.data.locating import data_home, images_folder, load_with_summary, resolve_data
from asterism.data.preferences import PreferencePairs, preference_pairs
from asterism.data.splits import split_dataset
from asterism.decoding import Generator, Mode
from asterism.decoding.content import ContentHead
from asterism.embeddings import ItemEmbedder
from asterism.evaluation.metrics import ndcg, recall, target_ranks
from asterism.models.ugt import UGT, ItemFeatures, load_ugt, save_ugt
from asterism.semantic_ids import build_semantic_ids
from asterism.training.candidates import with_chosen_weights
from asterism.training.pipeline import train_model

ORDERS: Final[dict[str, Mode]] = {"served": "rescored", "ranked": "rank", "beam": "generate"}
LIST_LENGTH: Final = 100  # ranks are kept so deep, for other cutoffs than ours

Figures = dict[str, Any]


def initial_recipe(data: str) -> RunConfig:
    """The configuration that `asterism init` would write for a data set, given by folder or name."""
    folder = Path(data).resolve() if Path(data).is_dir() else data_home() / data
    imported = load_with_summary(folder)
    text = render_config(folder.name, {"path": str(folder)}, choose(imported.dataset, imported.summary))
    return parse_run_config(tomllib.loads(text), source="the configuration as `asterism init` writes it")


def recipe_of(config: Path, data: str | None) -> RunConfig:
    """A recipe from a file; on other data than its own where `data` names some, cut in the same way."""
    recipe = load_run_config(config)
    if data is None:
        return recipe
    own = {"path": str(Path(data).resolve()) if Path(data).is_dir() else data, "interactions": None}
    moved = recipe.data.model_copy(update={**own, "items": None, "users": None})
    return recipe.model_copy(update={"data": moved, "name": Path(data).name})


class World:
    """A data set with what its rows share: the split, the item vectors, and codes once for each way to make them."""

    def __init__(self, recipe: RunConfig, folder: Path) -> None:
        """`folder`: where the recipe's relative paths start."""
        self.recipe = recipe
        self.folder = folder
        self.dataset = resolve_data(recipe.data, folder)
        self.split = split_dataset(self.dataset, recipe.data)
        self._tables: dict[str, SemanticIdTable] = {}

    @cached_property
    def pairs(self) -> PreferencePairs:
        """What was acted on against what was passed over."""
        return preference_pairs(self.dataset.interactions, self.split, self.recipe.data.split)

    @cached_property
    def facts(self) -> Facts:
        """What the rows ask of the data."""
        train = self.split.train
        lengths = [train.lengths, *(self.split.cases(part).histories.lengths for part in PARTS)]  # type: ignore[arg-type]
        return Facts(
            items=len(self.split.items),
            longest_history=max(int(one.max(initial=0)) for one in lengths),
            different_actions=len(np.unique(train.actions)),
            has_values=train.values is not None and bool(np.isfinite(train.values).any()),
            has_contexts=any(one is not None and bool(one.any()) for one in (train.scenes, train.devices)),
            has_attributes=train.attributes is not None and bool(train.attributes.any()),
            pairs=self.pairs.count,
        )

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """(N, D) of the items."""
        images = images_folder(self.recipe.data, self.folder)
        recipe = self.recipe
        _, vectors = ItemEmbedder.fit(
            self.dataset.items, self.split.train, recipe.embeddings, recipe.seed, images=images
        )
        return vectors

    def table(self, config: RunConfig) -> SemanticIdTable:
        """The codes that a configuration asks for."""
        key = config.semantic_ids.model_dump_json()
        if key not in self._tables:
            self._tables[key], _ = build_semantic_ids(self.vectors, config.semantic_ids, config.seed)
        return self._tables[key]


def train(world: World, config: RunConfig) -> tuple[UGT, Figures]:
    """The model of a row's best epoch, and what training came to."""
    pairs = world.pairs if config.training.preference_weight > 0 else None
    table = world.table(config)
    vectors = world.vectors
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model, result = train_model(config, world.split, vectors, table, Path(folder), pairs=pairs)
    return model.eval(), {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "cpu_minutes": round((time.process_time() - began) / 60, 2),
        "train_seconds": round(result.seconds, 1),
        "parameters": sum(one.numel() for one in model.parameters()),
    }


def ask(world: World, config: RunConfig, model: UGT) -> tuple[Ranking, Figures]:
    """Ranks and means of both parts in all orders, the history excluded; weights are chosen where they are to be."""
    table = world.table(config)
    if config.decoding.choose_weights:
        config = with_chosen_weights(config, model, table, world.vectors, world.split.validation)
    decoding = config.decoding
    device = model.items.codes.device
    generator = Generator(model, table, decoding, content=ContentHead(world.vectors), device=device)
    weights = {head: getattr(decoding, f"{head}_weight") for head in ("item", "code", "content")}
    ranking: Ranking = {}
    found: Figures = {"weights": weights}
    for part in PARTS:
        cases = world.split.cases(part)  # type: ignore[arg-type]
        ranking[f"{part}_users"] = cases.users.astype(np.int64)
        for order, mode in ORDERS.items():
            length = min(LIST_LENGTH, decoding.beam)  # a longer list would widen the beam
            lists = generator.recommend(cases.histories, length, exclude_history=True, mode=mode, progress=True)
            ranking[f"{part}_{order}"] = target_ranks(lists.items, cases.targets)
        found[part] = {order: means(ranking[f"{part}_{order}"]) for order in ORDERS}
    return ranking, found


def means(ranks: NDArray[np.int64]) -> dict[str, float]:
    """Recall and NDCG at 10."""
    return {
        "recall": round(float(recall(ranks, CUTOFF).mean()), 5),
        "ndcg": round(float(ndcg(ranks, CUTOFF).mean()), 5),
    }


def keep_model(model: UGT, place: Path) -> None:
    """Write a model beside the rows, for those that ask it again."""
    save_ugt(model, place.with_suffix(".safetensors"), place.with_suffix(".json"))


def kept_model(world: World, place: Path) -> UGT | None:
    """The model that was kept, None where there is none; it reads the recipe's own codes."""
    if not place.with_suffix(".json").is_file():
        return None
    table = world.table(world.recipe)
    codes, content = torch.from_numpy(table.codes).long(), torch.from_numpy(world.vectors).float()
    print("the default's model is read from disk", file=sys.stderr)
    features = ItemFeatures(codes, table.codebook_sizes, content)
    return load_ugt(place.with_suffix(".safetensors"), place.with_suffix(".json"), features)
