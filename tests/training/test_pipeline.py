"""From a market's log to a trained model: the terms of the loss that read more than sequences."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from asterism.config import RunConfig, parse_run_config
from asterism.core import records
from asterism.core.errors import ConfigError
from asterism.data.dataset import Dataset
from asterism.data.locating import load_dataset
from asterism.data.market import Market, MarketConfig
from asterism.data.splits import split_dataset
from asterism.decoding import recommend_exhaustively
from asterism.decoding.bundle_data import data_of_bundle
from asterism.decoding.content import ContentHead
from asterism.decoding.generator import Generator
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.loading import load_recommender
from asterism.decoding.neighbours import NeighbourHead
from asterism.decoding.state_cache import CacheLimits
from asterism.evaluation.metrics import ndcg, target_ranks
from asterism.training.monitor import METRICS_FILE
from asterism.training.pipeline import train_bundle


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    Market.generate(MarketConfig(users=60, items=100, days=8)).save(folder)
    return folder


def config_for(folder: Path, **training: object) -> RunConfig:
    raw = {
        "name": "market",
        "data": {"path": str(folder)},
        "embeddings": {"text_model": "tfidf", "width": 16},
        "semantic_ids": {"codes": 8},
        "model": {"width": 16, "blocks": 1, "dropout": 0.0},
        "training": {"epochs": 3, "learning_rate": 0.01, "warmup_steps": 1, "negatives": 32} | training,
    }
    return parse_run_config(raw, source="the test")


def test_every_term_is_learned_from_a_markets_log(market: Path, tmp_path: Path) -> None:
    weights = {"alignment_weight": 0.5, "preference_weight": 0.5, "negative_sampling": "mixed"}
    train_bundle(config_for(market, **weights), tmp_path, tmp_path / "bundle")
    lines = [json.loads(line) for line in (tmp_path / "bundle.run" / METRICS_FILE).read_text().splitlines()]
    for term in ("loss_codes", "loss_items", "loss_alignment", "loss_preference"):
        assert 0 < lines[-1][term] < lines[0][term], term
    weighed = sum(lines[0][f"loss_{one}"] * (1.0, 1.0, 0.5, 0.5)[place] for place, one in enumerate(
        ("codes", "items", "alignment", "preference")))  # fmt: skip
    assert lines[0]["loss"] == pytest.approx(weighed, rel=1e-4)


def test_weights_chosen_on_validation_are_those_of_the_bundle(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_for(market, epochs=2)
    chosen = config.model_copy(update={"decoding": config.decoding.model_copy(update={"choose_weights": True})})
    bundle = train_bundle(chosen, tmp_path, tmp_path / "bundle")
    assert bundle is not None
    trained = load_recommender(bundle)
    weights = trained.config.decoding
    assert weights != chosen.decoding, "two epochs leave something to gain"
    assert trained.config.model_copy(update={"decoding": config.decoding}) == config
    split = split_dataset(Market.load(market).dataset(), config.data)
    cases = split.validation
    found = trained.generator.recommend(cases.histories, 10, exclude_history=True)
    said = re.search(r"NDCG@10 of (\d+) validation cases ([\d.]+) → ([\d.]+)", capsys.readouterr().err)
    assert said is not None
    assert int(said[1]) == len(cases)
    assert float(said[3]) > float(said[2])
    served = float(ndcg(target_ranks(found.items, cases.targets), 10).mean())
    assert served == pytest.approx(float(said[3]), abs=6e-5), "the decoder orders as the search did"
    excluded = [set(cases.histories.items[cases.histories.row(row)].tolist()) for row in range(20)]
    asked = cases.take(np.arange(20)).histories
    heads = HistoryHeads(ContentHead(trained.item_vectors), NeighbourHead.learn(split.train, len(split.items)))
    slow = recommend_exhaustively(
        trained.policy, trained.semantic_ids, asked, 10, weights, excluded=excluded, heads=heads
    )
    np.testing.assert_array_equal(found.items[:20], slow.items)


def test_what_only_learned_codes_is_served_by_them(market: Path, tmp_path: Path) -> None:
    config = config_for(market, epochs=1, item_loss_weight=0)
    config = config.model_copy(update={"decoding": config.decoding.model_copy(update={"choose_weights": False})})
    bundle = train_bundle(config, tmp_path, tmp_path / "bundle")
    assert bundle is not None
    trained = load_recommender(bundle)
    assert (config.decoding.item_weight, config.decoding.code_weight) == (1.0, 0.0), "the defaults"
    assert (trained.config.decoding.item_weight, trained.config.decoding.code_weight) == (0.0, 1.0)
    histories = split_dataset(Market.load(market).dataset(), config.data).validation.histories
    served, steered = (trained.generator.recommend(histories, 10, mode=mode).items for mode in ("rescored", "generate"))
    np.testing.assert_array_equal(served, steered)


def test_a_wish_that_training_would_not_hear_is_a_sentence_at_once(market: Path, tmp_path: Path) -> None:
    config = config_for(market, preference_weight=0.1)
    language = config.model_copy(update={"model": config.model.model_copy(update={"kind": "llm"})})
    with pytest.raises(ConfigError, match=r"`training\.preference_weight` weighs a term of the UGT's loss"):
        train_bundle(language, tmp_path, tmp_path / "bundle")
    assert not (tmp_path / "bundle.run").exists()


def test_items_with_pictures_in_their_table_are_learned_from(market: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    dataset = load_dataset(market)
    pictures = pa.array([b"\x89PNG\xff"] * dataset.items.num_rows, pa.large_binary())
    Dataset(dataset.interactions, dataset.items.append_column("thumb", pictures)).save(folder)
    bundle = train_bundle(config_for(folder, epochs=1), tmp_path, tmp_path / "bundle")
    assert bundle is not None
    found = data_of_bundle(bundle, load_recommender(bundle).config.data)
    assert found.items.column_names == dataset.items.column_names


def test_a_log_without_a_preference_refuses_the_term(market: Path, tmp_path: Path) -> None:
    tables = Market.load(market).dataset()
    clicks = tables.interactions.filter(pa.compute.equal(tables.interactions[records.ACTION], "click"))
    Dataset(clicks, tables.items).save(tmp_path / "clicks")
    with pytest.raises(ConfigError, match=r"training\.preference_weight is above 0, but in training no user did more"):
        train_bundle(config_for(tmp_path / "clicks", preference_weight=0.1), tmp_path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_answers_in_the_precision_that_it_is_told(market: Path, tmp_path: Path) -> None:
    config = config_for(market, epochs=1)
    config = config.model_copy(update={"decoding": config.decoding.model_copy(update={"precision": "bf16"})})
    bundle = train_bundle(config, tmp_path, tmp_path / "bundle")
    assert bundle is not None
    fewer_bits, exact = load_recommender(bundle), load_recommender(bundle, precision="fp32")
    of_model = Generator(exact.policy, exact.semantic_ids, exact.config.decoding)
    histories = split_dataset(Market.load(market).dataset(), config.data).validation.histories
    rounded, precise, reference = (
        one.recommend(histories, 10, mode="rank").scores for one in (fewer_bits.generator, exact.generator, of_model)
    )
    np.testing.assert_allclose(precise, reference, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rounded, precise, atol=0.2)
    assert np.abs(rounded - precise).max() > 1e-3


def test_users_of_a_bundle_are_remembered_where_it_is_told_how_many(market: Path, tmp_path: Path) -> None:
    config = config_for(market, epochs=1)
    bundle = train_bundle(config, tmp_path, tmp_path / "bundle")
    assert bundle is not None
    trained = load_recommender(bundle, state_cache=CacheLimits(1 << 22))
    histories = split_dataset(Market.load(market).dataset(), config.data).validation.histories
    users = [str(row) for row in range(len(histories))]
    once, again = (trained.generator.recommend(histories, 10, users=users) for _ in range(2))
    np.testing.assert_array_equal(once.items, again.items)
    assert trained.states is not None
    assert (trained.states.counts.missed, trained.states.counts.repeated) == (len(histories), len(histories))
