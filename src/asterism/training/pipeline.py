"""From a configuration to a bundle, stage by stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from asterism.config import DecodingConfig, RunConfig, SemanticIdConfig
from asterism.config.idle import has_untaught_item_head, refuse_idle_training
from asterism.core import records
from asterism.core.bundle import Bundle, check_target
from asterism.core.errors import ConfigError, TrainingError
from asterism.core.hashing import hash_array, hash_value
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.fingerprinting import dataset_fingerprint
from asterism.data.locating import images_folder, resolve_data
from asterism.data.preferences import PreferencePairs, preference_pairs
from asterism.data.split import Split
from asterism.data.splits import split_dataset
from asterism.decoding.content import ContentHead
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.neighbours import NeighbourHead
from asterism.embeddings import ItemEmbedder
from asterism.models.trained import TrainedModel
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.semantic_ids import Quantizer, adopt, build_semantic_ids, load_earlier_ids, paths_of, read_index
from asterism.training.batches import trainable_rows
from asterism.training.bundling import TrainedParts, write_bundle
from asterism.training.candidates import with_chosen_weights
from asterism.training.identity import data_hashes
from asterism.training.language import LanguageRun, train_llm
from asterism.training.launches import wanted_cut
from asterism.training.loop import FitResult, Run, fit
from asterism.training.sole_trainer import sole_trainer
from asterism.training.validation import validator


def train_bundle(config: RunConfig, config_folder: Path, output: Path, *, resume: bool = False) -> Bundle | None:
    """Data → split → item vectors → semantic ids → model → bundle at `output`.

    The run keeps checkpoints, metrics.jsonl and TensorBoard curves in `<output>.run`; with `resume` an
    interrupted run goes on from its last finished epoch and ends with the same weights. Under
    torchrun or `accelerate launch` every process trains and the main one alone writes; the others return None. Raises
    `TrainingError` where the launch is for another engine, or there is nothing to learn from, `ConfigError` where a
    key would do nothing.
    """
    refuse_idle_training(config)
    wanted_cut()
    main_process = PartialState(cpu=not torch.cuda.is_available()).is_main_process
    output = output.resolve()
    check_target(output)
    folder = output.with_name(f"{output.name}.run")
    with sole_trainer(folder) if main_process else nullcontext():
        made = _train(config, config_folder, folder, resume=resume)
        return write_bundle(made, output) if main_process else None


def _train(config: RunConfig, config_folder: Path, folder: Path, *, resume: bool) -> TrainedParts:
    with _stage("data"):
        dataset = resolve_data(config.data, config_folder)
        fingerprint = dataset_fingerprint(dataset)
        split = split_dataset(dataset, config.data)
        _check_learnable(split, config.data.split)
        pairs = None
        if config.training.preference_weight > 0:
            pairs = preference_pairs(dataset.interactions, split, config.data.split)
        _check_pairs(pairs, config)
    with _stage("item vectors"):
        images = images_folder(config.data, config_folder)
        embedder, vectors = ItemEmbedder.fit(dataset.items, split.train, config.embeddings, config.seed, images=images)
    with _stage("semantic ids"):
        table, quantizer = _semantic_ids(dataset.items, vectors, config, config_folder)
    model: TrainedModel
    if config.model.kind == "llm" or has_untaught_item_head(config):
        config = config.model_copy(update={"decoding": _without_item_head(config.decoding)})
    if config.model.kind == "llm":
        run = LanguageRun(config, config_folder, split, dataset.items, table, folder)
        model, result = train_llm(run, resume=resume)
    else:
        model, result = train_model(config, split, vectors, table, folder, pairs=pairs, resume=resume)
    neighbours = None
    if PartialState().is_main_process:
        if config.decoding.choose_weights or config.decoding.neighbour_weight > 0:
            with _stage("neighbours"):
                neighbours = NeighbourHead.learn(split.train, len(split.items))
        ended = f"training ended after {result.epochs} epochs and {result.seconds:.0f} s: {result.stopped}"
        print(ended, file=sys.stderr)
        if config.decoding.choose_weights:
            with _stage("fusion weights"):
                config = with_chosen_weights(
                    config, model, table, HistoryHeads(ContentHead(vectors), neighbours), split.validation
                )
    return TrainedParts(
        config=config,
        config_folder=config_folder,
        dataset=dataset,
        dataset_fingerprint=fingerprint,
        embedder=embedder,
        vectors=vectors,
        semantic_ids=table,
        quantizer=quantizer,
        model=model,
        result=result,
        neighbours=neighbours,
    )


def train_model(
    config: RunConfig,
    split: Split,
    vectors: NDArray[np.float32],
    table: SemanticIdTable,
    folder: Path,
    *,
    pairs: PreferencePairs | None = None,
    resume: bool = False,
) -> tuple[UGT, FitResult]:
    """Train a UGT on item vectors (N, D) and semantic ids that are at hand; `folder` takes checkpoints and curves.

    The model comes back with the weights of its best epoch. Raises `TrainingError` where there is nothing to
    learn from or the loss is not finite, `ConfigError` where preference has weight and there are no `pairs`.
    """
    _check_pairs(pairs, config)
    torch.manual_seed(config.seed)
    content = torch.from_numpy(vectors).float()
    features = ItemFeatures(torch.from_numpy(table.codes).long(), table.codebook_sizes, content)
    model = UGT(features, UGTShape(config.model, config.training.temperature))
    decisive = [vectors, table.codes, *([] if pairs is None else [pairs.rejected, pairs.weights])]
    run = Run(
        model=model,
        train=split.train,
        config=config.training,
        seed=config.seed,
        folder=folder,
        config_hash=hash_value([config.model_dump(mode="json"), *data_hashes(split), *map(hash_array, decisive)]),
        validate=validator(split.validation, table, config),
        pairs=pairs,
    )
    return model, fit(run, resume=resume)


def _semantic_ids(
    items: pa.Table, vectors: NDArray[np.float32], config: RunConfig, config_folder: Path
) -> tuple[SemanticIdTable, Quantizer]:
    """Those of `llm.index` where the model was trained with them, else new ones."""
    if config.model.kind == "llm" and config.llm.index is not None:
        file = config_folder / config.llm.index
        return adopt(paths_of(read_index(file), items[records.ITEM_ID].to_pylist(), str(file)), vectors)
    earlier = _earlier_ids(items, config.semantic_ids, config_folder)
    return build_semantic_ids(vectors, config.semantic_ids, config.seed, earlier)


def _without_item_head(config: DecodingConfig) -> DecodingConfig:
    """What an item head would weigh, given to the codes: there is none beside a language model's, or it was not taught.

    A language model's item score is the log-probability of its codes, and so is weighed once.
    """
    return config.model_copy(update={"item_weight": 0.0, "code_weight": config.code_weight + config.item_weight})


def _earlier_ids(items: pa.Table, config: SemanticIdConfig, config_folder: Path) -> NDArray[np.int32] | None:
    if config.like is None:
        return None
    item_ids = items[records.ITEM_ID].to_pylist()
    return load_earlier_ids(config_folder / config.like, item_ids, len(item_ids), config.levels)


def _check_learnable(split: Split, method: str) -> None:
    """Say what is missing now, before minutes go into item vectors."""
    trainable_rows(split.train)
    if len(split.validation) == 0:
        raise TrainingError(
            f"the split {method} leaves no validation case, and training is steered by them; "
            "take another split, or data whose users have at least three events"
        )


def _check_pairs(pairs: PreferencePairs | None, config: RunConfig) -> None:
    if config.training.preference_weight > 0 and (pairs is None or pairs.count == 0):
        raise ConfigError(
            "training.preference_weight is above 0, but in training no user did more for one item than for another "
            "within half an hour; give impressions, skips, dislikes or purchases, or set it to 0"
        )


@contextmanager
def _stage(name: str) -> Iterator[None]:
    started = time.monotonic()
    if sys.stderr.isatty():  # the line below takes its place; a log needs only that one
        print(f"{name} …", end="\r", file=sys.stderr, flush=True)
    yield
    print(f"{name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
