"""What each head says of the candidates of validation cases, and in which order the heads stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import worlds
from asterism.config import DecodingConfig, EvaluationConfig, ModelConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.content import ContentHead
from asterism.decoding.history_heads import NO_HEADS, HistoryHeads
from asterism.decoding.neighbours import NeighbourHead
from asterism.evaluation.metrics import NOT_FOUND
from asterism.models.policy import read_histories
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.training.candidates import HEADS, score_candidates, with_chosen_weights

ITEMS = 20
CODES = np.array([[item // 5, item % 5] for item in range(ITEMS)])


def test_four_heads_score_the_generated_items_and_absent_ones_say_nothing() -> None:
    torch.manual_seed(0)
    split = worlds.markov_chain(items=ITEMS)
    content = torch.randn(ITEMS, 4)
    shape = UGTShape(ModelConfig(width=8, blocks=1, heads=2, max_events=8, dropout=0.0), 0.1)
    model = UGT(ItemFeatures(torch.from_numpy(CODES), (4, 5), content), shape).eval()
    heads = HistoryHeads(ContentHead(content), NeighbourHead.learn(split.train, ITEMS))
    cases, config = split.validation, DecodingConfig(beam=ITEMS)
    table = SemanticIdTable(CODES, (4, 5))
    found = score_candidates(model, table, heads, cases, config)
    assert HEADS == ("item", "code", "content", "neighbour")
    assert found.scores.shape == (4, len(cases), ITEMS)
    histories = read_histories(model, cases.histories)
    for row in (0, 7, len(cases) - 1):
        history = set(cases.histories.items[cases.histories.row(row)].tolist())
        items = [item for item in range(ITEMS) if item not in history]
        assert found.present[row].sum() == len(items)
        assert items[found.targets[row]] == cases.targets[row]
        asked = torch.arange(ITEMS).expand(len(cases), -1)
        assert heads.content is not None
        assert heads.neighbours is not None
        with torch.inference_mode():
            expected = (
                model.item_scores(model.encode(histories)),
                None,
                heads.content.scores(heads.content.queries(histories), asked),
                heads.neighbours.scores(histories, asked),
            )
        for place, one in enumerate(expected):
            if one is not None:
                of_row = one[row, items].numpy()
                np.testing.assert_allclose(found.scores[place, row, : len(items)], of_row, rtol=1e-4, atol=1e-5)
    assert found.scores[3].any(), "the ring's successors are neighbours"
    nothing = score_candidates(model, table, NO_HEADS, cases, config)
    assert not nothing.scores[2:].any()
    np.testing.assert_array_equal(nothing.scores[:2], found.scores[:2])


def test_only_what_the_item_head_keeps_stands_for_choice() -> None:
    torch.manual_seed(0)
    split = worlds.markov_chain(items=ITEMS)
    shape = UGTShape(ModelConfig(width=8, blocks=1, heads=2, max_events=8, dropout=0.0), 0.1)
    model = UGT(ItemFeatures(torch.from_numpy(CODES), (4, 5), torch.randn(ITEMS, 4)), shape).eval()
    table = SemanticIdTable(CODES, (4, 5))
    whole = score_candidates(model, table, NO_HEADS, split.validation, DecodingConfig(beam=ITEMS))
    for kept, left in ((11, 11), (3, 10)):  # as many as NDCG@10 looks at are always kept
        found = score_candidates(model, table, NO_HEADS, split.validation, DecodingConfig(beam=ITEMS, kept=kept))
        assert (found.present.sum(axis=1) == np.minimum(left, whole.present.sum(axis=1))).all()
        assert found.scores.shape[2] == left < whole.scores.shape[2]
        for row in range(len(split.validation)):
            places = np.flatnonzero(whole.present[row])
            best = sorted(places, key=lambda place: (-whole.scores[0, row, place], place))[:left]
            np.testing.assert_array_equal(found.scores[:, row, : len(best)], whole.scores[:, row, sorted(best)])
            target = whole.targets[row]
            assert found.targets[row] == (sorted(best).index(target) if target in best else NOT_FOUND)
        assert (found.targets == NOT_FOUND).any()


def test_weights_are_chosen_on_all_cases_however_few_an_epoch_asks(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    split = worlds.markov_chain(items=ITEMS)
    shape = UGTShape(ModelConfig(width=8, blocks=1, heads=2, max_events=8, dropout=0.0), 0.1)
    model = UGT(ItemFeatures(torch.from_numpy(CODES), (4, 5), torch.randn(ITEMS, 4)), shape).eval()
    config = worlds.run_config(decoding=DecodingConfig(beam=ITEMS), evaluation=EvaluationConfig(validation_cases=3))
    heads = HistoryHeads(None, NeighbourHead.learn(split.train, ITEMS))
    found = with_chosen_weights(config, model, SemanticIdTable(CODES, (4, 5)), heads, split.validation)
    assert f"of {len(split.validation)} validation cases" in capsys.readouterr().err
    assert found.decoding.neighbour_weight > 0, "the ring's successors are neighbours"
