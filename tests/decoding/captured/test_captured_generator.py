"""Recorded graphs answer what the generator answers, row by row, whatever is left out, filtered or sold out."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.config import DecodingConfig
from asterism.core.errors import AbandonedError, ConfigError, ModelError, RequestError, UnknownIdError
from asterism.decoding import Generator
from asterism.decoding.captured import recordings
from asterism.decoding.captured.generator import CapturedGenerator
from asterism.decoding.captured.loading import captured_generator
from asterism.decoding.captured.recording import CudaGraphs, Directly, Recorder
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.loading import TrainedRecommender
from asterism.decoding.recommendations import Recommendations
from decoding.graph.small_bundle import ITEMS, heads, histories, model, table
from models.small_ugt import full_sequences

ALONE = DecodingConfig(beam=10, code_weight=0.4)
ITEMS_ALONE = DecodingConfig(beam=10)
DECODING = ALONE.model_copy(update={"content_weight": 1.5, "neighbour_weight": 3.0})
MOST_ROWS = 8


@pytest.fixture(scope="module", params=[0, 12], ids=["whole", "kept"])
def both(request: pytest.FixtureRequest) -> tuple[CapturedGenerator, Generator]:
    one, decoding = model(recency_pooling=True), DECODING.model_copy(update={"kept": request.param})
    captured = CapturedGenerator(one, decoding, Directly(), heads=heads(), most_rows=MOST_ROWS)
    return captured, Generator(one, table(), decoding, heads=heads())


def assert_alike(found: Recommendations, wanted: Recommendations) -> None:
    np.testing.assert_array_equal(found.items, wanted.items)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4, atol=1e-4)


@settings(max_examples=150)
@given(seed=st.integers(0, 1 << 32), rows=st.integers(1, 20), filtered=st.booleans())
def test_it_answers_as_the_generator(
    both: tuple[CapturedGenerator, Generator], seed: int, rows: int, filtered: bool
) -> None:
    random = np.random.default_rng(seed)
    asked = histories(random.integers(0, 9, rows).tolist(), seed=seed)
    filters = None
    if filtered:
        masks = [ItemFilter.of_mask(random.random(ITEMS) < random.random()) for _ in range(12)]
        filters = [masks[place] if place < 12 else None for place in random.integers(0, 16, rows)]
    excluded = [random.integers(0, ITEMS, random.integers(0, 80)) for _ in range(rows)]
    for item in random.integers(0, ITEMS, 10).tolist():
        available = bool(random.random() < 0.6)
        for one in both:
            one.set_available(item, available)
    counts, beams = random.integers(1, 25, rows), random.integers(1, 30, rows)
    answers = [
        one.recommend(asked, counts, excluded=excluded, filters=filters, beam=beams, code_log_probs=False)
        for one in both
    ]
    assert_alike(*answers)


def test_a_bundle_with_every_switch(trained: TrainedRecommender) -> None:
    captured = captured_generator(trained, Directly())
    asked = full_sequences([3, 0, 25, 1, 9, 5, 40], seed=2)
    asked = replace(asked, items=np.random.default_rng(0).integers(0, ITEMS, len(asked.items)).astype(np.int32))
    generator = Generator(trained.policy, trained.semantic_ids, trained.config.decoding, heads=trained.generator.heads)
    assert_alike(captured.recommend(asked, 7), generator.recommend(asked, 7))


def test_in_bf16_nearly_the_same_items_are_found() -> None:
    one, asked = model(recency_pooling=True), histories([5] * 200)
    exact, rounded = (CapturedGenerator(one, ALONE, Directly(), precision=name) for name in ("fp32", "bf16"))
    found, wanted = rounded.recommend(asked, 10).items, exact.recommend(asked, 10).items
    overlap = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(found, wanted, strict=True)])
    assert 0.95 <= overlap < 1.0


def test_batches_are_padded_to_few_sizes() -> None:
    captured = CapturedGenerator(model(), ALONE, Directly(), most_rows=MOST_ROWS)
    captured.recordings.record_all()
    recorded = len(captured.recordings)
    assert recorded == 4 * 5, "of 1, 2, 4 and 8 rows, and beams of 1, 2, 3, 5 and 10"
    for rows in range(1, 20):
        for beam in (1, 2, 3, 4, 7, 10):
            captured.recommend(histories([3] * rows), 1, beam=beam)
    assert len(captured.recordings) == recorded
    captured.recommend(histories([3]), 11)
    assert len(captured.recordings) == recorded + 1, "of a wider beam there is one when it is asked for"


def test_a_row_answers_as_it_would_alone(both: tuple[CapturedGenerator, Generator]) -> None:
    captured, _ = both
    asked = histories([3, 0, 5, 1, 9])
    together = captured.recommend(asked, [4, 9, 1, 20, 3], beam=[4, 9, 1, 20, 30]).items
    for row, (count, beam) in enumerate([(4, 4), (9, 9), (1, 1), (20, 20), (3, 30)]):
        alone = captured.recommend(asked.take(np.array([row])), count, beam=beam).items[0]
        np.testing.assert_array_equal(alone, together[row, :count])
        assert (together[row, count:] == -1).all()


def test_a_row_that_leaves_out_more_than_a_recording_holds(
    both: tuple[CapturedGenerator, Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "_MOST_GONE", 16)
    one, asked = model(), histories([5, 5, 0])
    captured = CapturedGenerator(one, DECODING, Directly(), heads=heads())
    generator = Generator(one, table(), DECODING, heads=heads())
    for gone in (16, 17, 55, ITEMS):
        excluded = [np.arange(gone), np.arange(ITEMS - gone, ITEMS), np.arange(3)]
        assert_alike(captured.recommend(asked, 6, excluded=excluded), generator.recommend(asked, 6, excluded=excluded))
    assert len(captured.recordings) == 1, "such a batch leaves no recording"


def test_filters_make_room_for_others() -> None:
    """More of them than slots in a batch, again and again, and items that come and go between."""
    one, asked = model(), histories([4] * 7)
    captured = CapturedGenerator(one, ALONE, Directly(), most_rows=2)
    generator = Generator(one, table(), ALONE)
    filters = [ItemFilter.allowing(range(first, ITEMS, 3)) for first in range(7)]
    for turn in range(4):
        for generating in (captured, generator):
            generating.set_available(turn * 7, turn % 2 == 0)
        mixed = [*filters[turn:], *filters[:turn]]
        assert_alike(captured.recommend(asked, 5, filters=mixed), generator.recommend(asked, 5, filters=mixed))
        everyone = filters[turn]
        assert_alike(captured.recommend(asked, 5, filters=everyone), generator.recommend(asked, 5, filters=everyone))


def test_nothing_left() -> None:
    captured, asked = CapturedGenerator(model(), ALONE, Directly()), histories([4, 4])
    found = captured.recommend(asked, 3, excluded=[range(ITEMS), []], filters=[None, ItemFilter.allowing(())])
    assert (found.items == -1).all()
    assert np.isneginf(found.scores).all()
    for count in (3, np.int64(3), [3, 3][:0]):
        assert len(captured.recommend(histories([]), count).items) == 0
    for item in range(ITEMS):
        captured.set_available(item, False)
    assert len(captured) == 0
    with pytest.raises(ModelError, match="no item is available"):
        captured.recommend(asked, 3)


def test_threads_do_not_get_each_others_answers() -> None:
    captured, asked = (
        CapturedGenerator(model(), ALONE, Directly()),
        [histories([4] * 8, seed=seed) for seed in range(6)],
    )
    wanted = [captured.recommend(one, 5).items for one in asked]

    def is_right(place: int) -> bool:
        return np.array_equal(captured.recommend(asked[place % 6], 5).items, wanted[place % 6])

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(is_right, range(60)))


def test_it_may_be_made_in_one_mode_of_torch_and_asked_in_another() -> None:
    captured, asked = CapturedGenerator(model(), ALONE, Directly()), histories([3, 2])
    with torch.inference_mode():
        first = captured.recommend(asked, 3)
    captured.set_available(int(first.items[0, 0]), False)
    assert first.items[0, 0] not in captured.recommend(asked, 3).items[0]


def test_a_wide_beam_is_for_fewer_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_SCORES_AT_ONCE", 400)
    one, asked = model(), histories([4] * 9)
    captured = CapturedGenerator(one, DECODING, Directly(), heads=heads())
    family = max(int(one.decoder.tree.level(number).counts.max()) for number in range(4))
    assert captured.recordings.most_rows(10) == 4 == 1 << (400 // max(10 * family, ITEMS)).bit_length() - 1
    assert captured.recordings.most_rows(1000) == 1
    generator = Generator(one, table(), DECODING, heads=heads())
    assert_alike(captured.recommend(asked, 5), generator.recommend(asked, 5))


def test_a_head_without_weight_is_not_asked() -> None:
    one, decoding = model(), ALONE.model_copy(update={"item_weight": 0.0})
    with torch.no_grad():
        one.turn.bias.fill_(torch.nan)
    asked = histories([3, 4])
    assert_alike(
        CapturedGenerator(one, decoding, Directly()).recommend(asked, 3),
        Generator(one, table(), decoding).recommend(asked, 3),
    )


def test_a_batch_that_nobody_waits_for_is_left() -> None:
    captured = CapturedGenerator(model(), ALONE, Directly(), most_rows=2)
    asked = iter([True, False])
    with pytest.raises(AbandonedError, match="left at row 2"):
        captured.recommend(histories([3] * 6), 2, wanted=lambda: next(asked))


@pytest.mark.parametrize("part", ["start", "decoder.turns.0.bias", "decoder.turns.2.bias", "turn.bias"])
@pytest.mark.parametrize("number", [np.nan, -np.nan])
def test_a_score_that_is_no_number_is_told(part: str, number: float) -> None:
    """Of the state, of an early and of a late level's codes, of the item head."""
    one = model()
    with torch.no_grad():
        one.get_parameter(part).fill_(number)
    for generating in (CapturedGenerator(one, ITEMS_ALONE, Directly()), Generator(one, table(), ITEMS_ALONE)):
        with pytest.raises(ModelError, match=r"score of row . is not a number"):
            generating.recommend(histories([3, 0, 2]), 3, code_log_probs=False)


@pytest.mark.parametrize(
    ("senseless", "said"),
    [
        ({"k": 0}, "ask for at least 1"),
        ({"k": [1, 0]}, "it must be at least 1"),
        ({"k": [1]}, "give one for each, or one for all"),
        ({"k": 1, "beam": [0, 1]}, "it must be at least 1"),
        ({"k": 1, "excluded": [[1]]}, "`excluded` has 1 rows for 2 histories"),
        ({"k": 1, "filters": [None]}, "`filters` has 1 rows for 2 histories"),
        ({"k": 1, "users": ["ada"]}, "`users` has 1 rows for 2 histories"),
        ({"k": 1, "code_log_probs": True}, "no log-probabilities of codes"),
    ],
)
def test_senseless_requests(senseless: dict[str, object], said: str) -> None:
    captured = CapturedGenerator(model(), ALONE, Directly())
    with pytest.raises(RequestError, match=said):
        captured.recommend(histories([1, 1]), **senseless)  # type: ignore[arg-type]


def test_items_beyond_the_catalogue() -> None:
    """Of a history, too: a device would look where nothing is."""
    captured = CapturedGenerator(model(), ALONE, Directly())
    asked = histories([2, 2])
    for strange in (-1, ITEMS):
        with pytest.raises(UnknownIdError, match=f"item index {strange} of a history"):
            captured.recommend(replace(asked, items=np.array([1, 2, strange, 3], np.int32)), 1)
        with pytest.raises(UnknownIdError, match=f"item index {strange}"):
            captured.recommend(histories([1]), 1, excluded=[[strange]])
        with pytest.raises(UnknownIdError, match=f"item index {strange}"):
            captured.set_available(strange, False)


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match=r"call eval\(\) on it"):
        CapturedGenerator(model().train(), ALONE, Directly())


def test_weights_without_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match="content_weight is above 0"):
        CapturedGenerator(model(), ALONE.model_copy(update={"content_weight": 1.0}), Directly())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_told() -> None:
    with pytest.raises(ConfigError, match="torch finds no CUDA device"):
        CudaGraphs()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("recorder", [CudaGraphs, lambda: Directly("cuda")], ids=["captured", "directly"])
def test_a_gpu_answers_as_the_processor(recorder: type[Recorder], trained: TrainedRecommender) -> None:
    """Batches of all sizes in a random order, so that graphs that share memory are replayed after one another."""
    ours, theirs = captured_generator(trained, recorder()), captured_generator(trained, Directly())
    ours.recordings.record_all()
    assert overlap(ours, theirs) > 0.995  # rounding may turn two that all but tie


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_graphs_outlive_those_of_another_generator(trained: TrainedRecommender) -> None:
    """What one generator's graphs work in must not go with another's."""
    theirs = captured_generator(trained, Directly())
    earlier = captured_generator(trained, CudaGraphs())
    earlier.recordings.record_all()
    later = captured_generator(trained, CudaGraphs())
    later.recordings.record_all()
    assert overlap(earlier, theirs) > 0.995
    del earlier
    gc.collect()
    torch.cuda.empty_cache()
    assert overlap(later, theirs) > 0.995


def overlap(ours: CapturedGenerator, theirs: CapturedGenerator) -> float:
    """The share of their items that ours finds too, over random batches, wider beams than recorded among them."""
    random, shares = np.random.default_rng(0), []
    for _ in range(60):
        rows = int(random.integers(1, 40))
        asked = histories(random.integers(0, 9, rows).tolist(), seed=int(random.integers(1 << 30)))
        excluded = [random.integers(0, ITEMS, 20) for _ in range(rows)]
        beam = int(random.integers(1, 50))
        found, wanted = (one.recommend(asked, 5, excluded=excluded, beam=beam).items for one in (ours, theirs))
        shares += [len(np.intersect1d(*pair)) / 5 for pair in zip(found, wanted, strict=True)]
    return float(np.mean(shares))
