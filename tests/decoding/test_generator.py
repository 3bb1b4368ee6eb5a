"""The generator answers as its slow twin does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.config import DecodingConfig
from asterism.core.errors import AbandonedError, ConfigError, ModelError, RequestError, UnknownIdError
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding import Generator, ItemFilter, Mode, Recommendations, generator, recommend_exhaustively
from asterism.decoding.exclusion import ExcludedPairs
from decoding.table_policy import TablePolicy, random_histories, random_table

SIZES = [(4, 5), (32, 32, 8), (256, 256, 256, 19), (300, 4, 3)]
MODES: list[Mode] = ["generate", "rescored", "rank"]


def assert_same(one: Recommendations, other: Recommendations) -> None:
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert (one.code_log_probs is None) == (other.code_log_probs is None)
    if one.code_log_probs is not None and other.code_log_probs is not None:
        np.testing.assert_array_equal(one.code_log_probs, other.code_log_probs)


@settings(max_examples=120)
@given(
    sizes=st.sampled_from(SIZES),
    items=st.integers(2, 50),
    rows=st.integers(0, 7),
    k=st.integers(1, 60),
    mode=st.sampled_from(MODES),
    exclude_history=st.booleans(),
    coarse=st.booleans(),
    weights=st.sampled_from([(1.0, 0.0), (0.0, 1.0), (0.7, 0.3)]),
    kept=st.sampled_from([0, 1, 7, 30]),
    seed=st.integers(0, 10_000),
)
def test_the_twin_agrees(
    sizes: tuple[int, ...],
    items: int,
    rows: int,
    k: int,
    mode: Mode,
    exclude_history: bool,
    coarse: bool,
    weights: tuple[float, float],
    kept: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    table = random_table(sizes, items, seed)
    items = len(table)
    policy = TablePolicy(sizes, items, seed, coarse=coarse)
    histories = random_histories(rows, items, seed)
    config = DecodingConfig(beam=items, kept=kept, item_weight=weights[0], code_weight=weights[1])
    unavailable = np.flatnonzero(random.random(items - 1) < 0.3)
    own = [np.flatnonzero(random.random(items) < 0.3) for _ in range(rows)]
    found = Generator(policy, table, config).recommend(
        histories, k, exclude_history=exclude_history, unavailable=unavailable, excluded=own, mode=mode
    )
    seen = [set(histories.items[histories.row(row)].tolist()) if exclude_history else set() for row in range(rows)]
    excluded = [seen[row] | set(own[row].tolist()) | set(unavailable.tolist()) for row in range(rows)]
    assert_same(found, recommend_exhaustively(policy, table, histories, k, config, excluded=excluded, mode=mode))
    for row in range(rows):
        answered = found.items[row][found.items[row] >= 0].tolist()
        assert len(answered) == len(set(answered)) == min(k, items - len(excluded[row]))
        assert not excluded[row] & set(answered)


@pytest.mark.parametrize("mode", MODES)
def test_many_rows_are_answered_as_one_by_one(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_MAX_ROWS_AT_ONCE", 7)
    table = random_table((16, 16, 16), 300)
    one = Generator(TablePolicy((16, 16, 16), 300), table, DecodingConfig(beam=20, code_weight=0.5))
    histories = random_histories(40, 300)
    own = [[row, row + 1] for row in range(40)]
    whole = one.recommend(histories, 10, exclude_history=True, excluded=own, mode=mode, progress=True)
    for row in range(40):
        alone = one.recommend(
            histories.take(np.array([row])), 10, exclude_history=True, excluded=own[row : row + 1], mode=mode
        )
        np.testing.assert_array_equal(alone.items[0], whole.items[row])
        np.testing.assert_array_equal(alone.scores[0], whole.scores[row])


@settings(max_examples=40)
@given(
    sizes=st.sampled_from(SIZES),
    mode=st.sampled_from(MODES),
    shared=st.booleans(),
    log_probs=st.booleans(),
    code_weight=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 10_000),
)
def test_filters_join_what_is_excluded_and_unavailable(
    sizes: tuple[int, ...], mode: Mode, shared: bool, log_probs: bool, code_weight: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    table = random_table(sizes, 50, seed)
    items, rows = len(table), 4
    policy, histories = TablePolicy(sizes, items, seed), random_histories(rows, items, seed)
    config = DecodingConfig(beam=items, code_weight=code_weight)
    masks = random.random((rows, items)) < random.choice([0.1, 0.5, 0.9])
    filters = [ItemFilter.of_mask(masks[0]), None, ItemFilter.allowing(np.flatnonzero(masks[2])), None]
    allowed = [set(np.flatnonzero(masks[row]).tolist()) if row % 2 == 0 else set(range(items)) for row in range(rows)]
    if shared:
        allowed = [allowed[0]] * rows
    banned = np.flatnonzero(random.random(items - 1) < 0.2)
    own = [np.flatnonzero(random.random(items) < 0.2) for _ in range(rows)]
    found = Generator(policy, table, config).recommend(
        histories,
        10,
        unavailable=banned,
        excluded=own,
        filters=filters[0] if shared else filters,
        mode=mode,
        code_log_probs=log_probs,
    )
    gone = [set(range(items)) - allowed[row] | set(banned.tolist()) | set(own[row].tolist()) for row in range(rows)]
    slow = recommend_exhaustively(policy, table, histories, 10, config, excluded=gone, mode=mode)
    assert_same(found, slow if log_probs else replace(slow, code_log_probs=None))


def test_filters_of_the_wrong_number_are_refused() -> None:
    with pytest.raises(RequestError, match="`filters` has 1 rows for 2 histories"):
        make().recommend(random_histories(2, 10), 1, filters=[None])


def test_a_short_allow_list_needs_no_step_of_the_policy() -> None:
    table = random_table((32, 32, 8), 200)
    policy = TablePolicy((32, 32, 8), 200)
    few = ItemFilter.allowing([3, 5, 8])
    one = Generator(policy, table, DecodingConfig(beam=20))
    found = one.recommend(random_histories(2, 200), 2, filters=few, code_log_probs=False)
    assert policy.calls == []
    assert (found.items >= 0).all()
    assert set(found.items.ravel().tolist()) <= {3, 5, 8}
    one.recommend(random_histories(2, 200), 2, filters=few)
    assert len(policy.calls) == 3


def test_rescoring_orders_the_beam_by_the_fused_score() -> None:
    table = random_table((32, 32, 8), 200)
    policy = TablePolicy((32, 32, 8), 200)
    config = DecodingConfig(beam=15, item_weight=2.0, code_weight=0.5)
    histories = random_histories(6, 200)
    one = Generator(policy, table, config)
    beam = one.recommend(histories, 15, mode="generate")
    found = one.recommend(histories, 4, mode="rescored")
    assert beam.code_log_probs is not None
    assert found.code_log_probs is not None
    for row in range(6):
        events = histories.items[histories.row(row)][-5:].astype(int)
        head = policy.of_item[int((events + 1).sum()) % 13].numpy()
        fused = {
            int(item): np.float32(2.0) * head[item] + np.float32(0.5) * log_prob
            for item, log_prob in zip(beam.items[row], beam.code_log_probs[row], strict=True)
        }
        best = sorted(fused, key=lambda item: (-fused[item], item))[:4]
        assert found.items[row].tolist() == best
        np.testing.assert_allclose(found.scores[row], [fused[item] for item in best], rtol=1e-6)


def test_the_cascade_by_hand() -> None:
    """Four items are generated; the item head keeps two; the codes' log-probabilities then put the worse one first."""
    table = SemanticIdTable(np.arange(6)[:, None], (6,))
    policy = TablePolicy((6,), 6)
    policy.of_prefix = [torch.zeros((101, 6))]
    policy.of_taste = [torch.tensor([0.3, 0.2, 0.2, 0.2, 0.05, 0.05]).log().expand(13, -1)]
    policy.of_item = torch.tensor([[1.0, 5.0, 3.0, 5.0, 9.0, 9.0]]).expand(13, -1)
    histories = random_histories(1, 6)

    def answer(config: DecodingConfig, beam: int | None = None) -> list[int]:
        return Generator(policy, table, config).recommend(histories, 1, beam=beam).items[0].tolist()

    assert answer(DecodingConfig(beam=4, kept=0, code_weight=100.0)) == [0]
    assert answer(DecodingConfig(beam=4, kept=2, code_weight=100.0)) == [1]  # 1 and 3 are kept, and alike in all
    assert answer(DecodingConfig(beam=4, kept=4, code_weight=100.0)) == [0]
    assert answer(DecodingConfig(beam=4, kept=1, code_weight=0.0)) == [1]
    assert answer(DecodingConfig(beam=4, kept=1), beam=6) == [4]
    assert answer(DecodingConfig(beam=6, kept=1), beam=1) == [0]


@pytest.mark.parametrize("mode", MODES)
def test_every_row_has_a_beam_of_its_own(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_MAX_ROWS_AT_ONCE", 4)
    table = random_table((16, 16, 16), 300)
    one = Generator(TablePolicy((16, 16, 16), 300), table, DecodingConfig(beam=20, kept=15))
    histories, widths = random_histories(9, 300), np.array([1, 300, 7, 40, 12, 300, 2, 5, 11])
    whole = one.recommend(histories, 5, exclude_history=True, beam=widths, mode=mode)
    for row, width in enumerate(widths.tolist()):
        own = histories.take(np.array([row]))
        alone = one.recommend(own, 5, exclude_history=True, beam=width, mode=mode)
        np.testing.assert_array_equal(alone.items[0], whole.items[row])
        np.testing.assert_array_equal(alone.scores[0], whole.scores[row])
    usual = one.recommend(histories, 5, exclude_history=True, mode=mode)
    assert_same(usual, one.recommend(histories, 5, exclude_history=True, beam=20, mode=mode))
    if mode == "rescored":
        assert not np.array_equal(usual.items, whole.items)
    with pytest.raises(RequestError, match=r"`beam` has shape \(2,\) for 9 rows"):
        one.recommend(histories, 5, beam=[1, 2], mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weights", [{}, {"code_weight": 0.5}])
def test_every_row_has_a_count_of_its_own(
    mode: Mode, weights: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its neighbours ask for changes neither its items nor how wide its beam is."""
    monkeypatch.setattr(generator, "_MAX_ROWS_AT_ONCE", 4)
    table = random_table((16, 16, 16), 300)
    one = Generator(TablePolicy((16, 16, 16), 300), table, DecodingConfig(beam=20, kept=15, **weights))
    histories = random_histories(9, 300)
    counts, widths = np.array([1, 400, 7, 40, 12, 3, 2, 5, 11]), np.array([3, 3, 50, 3, 3, 3, 60, 3, 3])
    for log_probs in (True, False):
        whole = one.recommend(histories, counts, exclude_history=True, beam=widths, mode=mode, code_log_probs=log_probs)
        assert whole.items.shape == (9, 400)
        for row, (count, width) in enumerate(zip(counts.tolist(), widths.tolist(), strict=True)):
            own = histories.take(np.array([row]))
            alone = one.recommend(own, count, exclude_history=True, beam=width, mode=mode, code_log_probs=log_probs)
            here = np.s_[row : row + 1, :count]
            of_codes = None if whole.code_log_probs is None else whole.code_log_probs[here]
            assert_same(Recommendations(whole.items[here], whole.scores[here], of_codes), alone)
            assert (whole.items[row, count:] == -1).all()
            assert np.isneginf(whole.scores[row, count:]).all()
            if whole.code_log_probs is not None:
                assert np.isneginf(whole.code_log_probs[row, count:]).all()


def test_all_of_a_history_is_excluded_not_only_what_the_policy_reads() -> None:
    table = random_table((8, 8), 12)
    histories = Sequences(
        np.array([0, 11]), np.arange(11, dtype=np.int32), np.arange(11, dtype=np.int64), np.ones(11, dtype=np.int8)
    )
    one = Generator(TablePolicy((8, 8), 12), table, DecodingConfig(beam=3))
    for mode in MODES:
        assert one.recommend(histories, 3, exclude_history=True, mode=mode).items.tolist() == [[11, -1, -1]]


@pytest.mark.parametrize("mode", MODES)
def test_items_come_and_go_while_serving(mode: Mode) -> None:
    table = random_table((32, 32, 8), 50)
    policy = TablePolicy((32, 32, 8), 51)
    one = Generator(policy, table, DecodingConfig(beam=60))
    histories = random_histories(5, 50)
    before = one.recommend(histories, 51, mode=mode)
    best = int(before.items[0, 0])
    one.set_available(best, False)
    one.set_available(best, False)
    assert len(one) == 49
    without = one.recommend(histories, 51, mode=mode)
    assert best not in without.items
    assert_same(
        without,
        Generator(policy, table, DecodingConfig(beam=60)).recommend(histories, 51, unavailable=[best], mode=mode),
    )
    one.set_available(best, True)
    assert_same(one.recommend(histories, 51, mode=mode), before)
    path = next((0, 0, code) for code in range(8) if table.item_of((0, 0, code)) is None)
    one.insert(50, path)
    larger = SemanticIdTable(np.vstack([table.codes, path]), table.codebook_sizes)
    assert_same(
        one.recommend(histories, 51, mode=mode),
        recommend_exhaustively(policy, larger, histories, 51, DecodingConfig(), excluded=[()] * 5, mode=mode),
    )


def test_items_may_come_and_go_in_another_thread() -> None:
    table = random_table((32, 32, 8), 300)
    one = Generator(TablePolicy((32, 32, 8), 300), table, DecodingConfig(beam=30))
    done = threading.Event()

    def toggle() -> None:
        while not done.is_set():
            for item in range(0, 300, 2):
                one.set_available(item, False)
            for item in range(0, 300, 2):
                one.set_available(item, True)

    with ThreadPoolExecutor(1) as pool:
        changes = pool.submit(toggle)
        try:
            for seed in range(30):
                found = one.recommend(random_histories(8, 300, seed), 30)
                assert (found.items >= 0).all()
                assert all(len(set(row)) == 30 for row in found.items.tolist())
        finally:
            done.set()
        changes.result()
    assert len(one) == 300


def test_a_policy_that_cannot_rank_a_new_item_says_so() -> None:
    table = random_table((32, 32, 8), 50)
    one = Generator(TablePolicy((32, 32, 8), 50), table, DecodingConfig())
    one.insert(50, next((0, 0, code) for code in range(8) if table.item_of((0, 0, code)) is None))
    with pytest.raises(ModelError, match="the policy scores 50 items, the trie holds item index 50"):
        one.recommend(random_histories(2, 50), 3, mode="rank")


def make(**changes: object) -> Generator:
    settings: dict[str, object] = {"sizes": (4, 5), "config": DecodingConfig()} | changes
    policy = TablePolicy(settings["sizes"], 10)  # type: ignore[arg-type]
    return Generator(policy, random_table((4, 5), 10), settings["config"])  # type: ignore[arg-type]


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"writes codes of sizes \(4, 6\), the table has \(4, 5\)"):
        make(sizes=(4, 6))
    with pytest.raises(ConfigError, match="are all 0"):
        make(config=DecodingConfig(item_weight=0.0, code_weight=0.0))
    with pytest.raises(ConfigError, match=r"content_weight is above 0, but there are no item vectors"):
        make(config=DecodingConfig(content_weight=1.0)).recommend(random_histories(3, 10), 2)


def test_pairs_of_any_whole_numbers_are_left_out_and_checked() -> None:
    one, histories = make(), random_histories(3, 10)
    lists = [[1, 2], [], [5]]
    expected = one.recommend(histories, 4, excluded=lists)
    for kind in (np.int16, np.int32, np.uint32, np.int64):
        pairs = ExcludedPairs(np.array([0, 0, 2], dtype=kind), np.array([1, 2, 5], dtype=kind))
        np.testing.assert_array_equal(one.recommend(histories, 4, excluded=pairs).items, expected.items)
        beyond = pairs._replace(items=np.array([1, 2, 10], dtype=kind))
        with pytest.raises(UnknownIdError, match="item index 10"):
            one.recommend(histories, 4, excluded=beyond)


def test_senseless_requests_are_refused() -> None:
    one, histories = make(), random_histories(3, 10)
    with pytest.raises(RequestError, match="0 recommendations"):
        one.recommend(histories, 0)
    with pytest.raises(RequestError, match="`k` is 0 in row 1; it must be at least 1"):
        one.recommend(histories, [3, 0, 3])
    with pytest.raises(RequestError, match=r"`k` has shape \(2,\) for 3 rows"):
        one.recommend(histories, [3, 3])
    with pytest.raises(RequestError, match="known modes: generate, rescored, rank"):
        one.recommend(histories, 1, mode="best")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="has 1 rows for 3 histories"):
        one.recommend(histories, 1, excluded=[[]])
    with pytest.raises(UnknownIdError, match=r"item index 10 \(unavailable\) is outside the catalogue of 10"):
        one.recommend(histories, 1, unavailable=[10])
    with pytest.raises(UnknownIdError, match="item index -1"):
        one.recommend(histories, 1, excluded=[[], [-1], []])
    with pytest.raises(UnknownIdError, match="item index 99 was never in the trie"):
        one.set_available(99, True)


@pytest.mark.parametrize("mode", MODES)
def test_a_catalogue_without_available_items_is_an_error(mode: Mode) -> None:
    with pytest.raises(ModelError, match="the trie holds no item"):
        make().recommend(random_histories(2, 10), 3, unavailable=range(10), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_rows_with_everything_excluded_are_padding(mode: Mode) -> None:
    found = make().recommend(random_histories(2, 10), 3, excluded=[list(range(10)), []], mode=mode)
    assert found.items[0].tolist() == [-1, -1, -1]
    assert found.scores[0].tolist() == [-np.inf] * 3
    assert (found.items[1] >= 0).all()


def test_a_policy_in_training_mode_is_refused() -> None:
    class Trained(torch.nn.Module, TablePolicy):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            TablePolicy.__init__(self, (4, 5), 10)

    policy = Trained()
    one = Generator(policy, random_table((4, 5), 10), DecodingConfig())
    with pytest.raises(ModelError, match="training mode"):
        one.recommend(random_histories(1, 10), 1)
    policy.eval()
    assert len(one.recommend(random_histories(1, 10), 1)) == 1


def test_an_item_head_that_is_not_a_number_is_refused() -> None:
    for mode in ("rescored", "rank"):
        policy = TablePolicy((4, 5), 10)
        policy.of_item[:] = torch.nan
        one = Generator(policy, random_table((4, 5), 10), DecodingConfig())
        with pytest.raises(ModelError, match="not a number"):
            one.recommend(random_histories(1, 10), 1, mode=mode)  # type: ignore[arg-type]


def test_an_item_head_of_the_wrong_shape_is_refused() -> None:
    class Wide(TablePolicy):
        def item_scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
            return super().item_scores(state)

    one = Generator(Wide((4, 5), 10), random_table((4, 5), 10), DecodingConfig(beam=3))
    with pytest.raises(ModelError, match=r"shape \(1, 10\) for candidates \(1, 3\)"):
        one.recommend(random_histories(1, 10), 1)


def test_a_calls_own_beam_is_as_if_it_were_configured() -> None:
    table = random_table((32, 32, 8), 200, 3)
    policy = TablePolicy((32, 32, 8), 200, 3)
    histories = random_histories(5, 200, 3)
    wide = Generator(policy, table, DecodingConfig(beam=60))
    narrow = Generator(policy, table, DecodingConfig(beam=7))
    assert_same(wide.recommend(histories, 5, beam=7), narrow.recommend(histories, 5))
    assert_same(narrow.recommend(histories, 5, beam=60), wide.recommend(histories, 5))
    assert (wide.recommend(histories, 5).items != narrow.recommend(histories, 5).items).any()


def test_a_call_that_nobody_waits_for_is_left_before_its_next_step() -> None:
    table = random_table((32, 32, 8), 200, 3)
    asked: list[bool] = []

    def wanted() -> bool:
        asked.append(True)
        return len(asked) < 3

    with pytest.raises(AbandonedError, match="these 5 rows any more; they were left at level 2"):
        Generator(TablePolicy((32, 32, 8), 200, 3), table, DecodingConfig(beam=20)).recommend(
            random_histories(5, 200, 3), 5, wanted=wanted
        )
