"""The LLM as a policy: what it answers is what a full pass over prompt and prefix says, however it is batched."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import worlds
from asterism.config.run import DecodingConfig
from asterism.core.errors import ConfigError, ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding.generator import Generator
from asterism.models.llm import LLM
from asterism.models.llm import model as module
from asterism.models.llm.backbone import check_supported
from asterism.models.paths import item_log_probs
from asterism.models.policy import HistoryBatch, read_histories
from command_line import environment
from models.small_llm import CODES, FAMILIES, ITEMS, SIZES, make_language, make_llm, make_shape, make_table

ROWS = [[1, 2], [3, 4, 5, 6, 7, 8], [], [11]]


def batch(model: LLM, rows: list[list[int]] = ROWS) -> HistoryBatch:
    return read_histories(model, worlds.sequences_of(rows))


def slow_log_probs(model: LLM, row: list[int], prefix: list[int]) -> Tensor:
    """(codes,) by one plain pass of the whole model over prompt and prefix, spelled and tokenised as text."""
    names = [f"<{'abc'[level]}_{code}>" for item in row[-model.max_events :] for level, code in enumerate(CODES[item])]
    text = "history: " + "".join(names) + "".join(f"<{'abc'[level]}_{code}>" for level, code in enumerate(prefix))
    tokens = torch.tensor([model.tokenizer(text).input_ids])
    logits = model.language(input_ids=tokens).logits[0, -1]
    return functional.log_softmax(logits[model.level_ids(len(prefix))], dim=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_it_equals_a_full_pass_for_each_beam(family: str, tied: bool) -> None:
    model = make_llm(make_shape(family=family, tied=tied))
    state = model.encode(batch(model))
    random = np.random.default_rng(0)
    for level in range(3):
        prefixes = random.integers(0, SIZES[:level], (len(ROWS), 70, level))
        found = model.next_code_log_probs(state, torch.from_numpy(prefixes))
        assert found.shape == (len(ROWS), 70, SIZES[level])
        for row, beam in [(0, 0), (1, 3), (1, 69), (2, 1), (3, 2)]:
            expected = slow_log_probs(model, ROWS[row], prefixes[row, beam].tolist())
            torch.testing.assert_close(found[row, beam], expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_probabilities_sum_to_one_at_every_level() -> None:
    model = make_llm()
    state = model.encode(batch(model))
    for level in range(3):
        log_probs = model.next_code_log_probs(state, torch.zeros(len(ROWS), 3, level, dtype=torch.long))
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(len(ROWS), 3))


@torch.inference_mode()
def test_a_row_alone_answers_as_in_a_batch() -> None:
    model = make_llm()
    prefixes = torch.tensor([[[1, 2], [0, 3]]]).expand(len(ROWS), -1, -1)
    together = model.next_code_log_probs(model.encode(batch(model)), prefixes)
    for row, history in enumerate(ROWS):
        alone = model.next_code_log_probs(model.encode(batch(model, [history])), prefixes[:1])
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_zeros_behind_a_state_change_nothing() -> None:
    model = make_llm()
    state = model.encode(batch(model))
    wider = functional.pad(state, (0, 3 * model.state_shape.per_token))
    prefixes = torch.tensor([[[2, 1]]]).expand(len(ROWS), -1, -1)
    torch.testing.assert_close(model.next_code_log_probs(wider, prefixes), model.next_code_log_probs(state, prefixes))


def test_a_state_holds_long_prompts_in_bf16() -> None:
    shape = make_llm().state_shape
    lengths = torch.tensor([1, 255, 257, 301])
    cache = torch.zeros(4, shape.heads, 301, shape.head_width, dtype=torch.bfloat16)
    state = shape.pack(torch.zeros(4, shape.width, dtype=torch.bfloat16), [(cache, cache)] * shape.layers, lengths)
    assert shape.unpack(state).lengths.tolist() == lengths.tolist()


@torch.inference_mode()
def test_beams_do_not_see_each_other() -> None:
    model = make_llm()
    state = model.encode(batch(model, [[1, 2, 3]]))
    alone = model.next_code_log_probs(state, torch.tensor([[[1, 2]]]))
    crowd = model.next_code_log_probs(state, torch.tensor([[[0, 1], [1, 2], [2, 3]]]))
    torch.testing.assert_close(crowd[:, 1], alone[:, 0], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_item_scores_are_the_log_probabilities_of_whole_paths() -> None:
    model = make_llm()
    state = model.encode(batch(model))
    everything = model.item_scores(state)
    by_hand = torch.stack(
        [sum(slow_log_probs(model, ROWS[1], CODES[item][:level].tolist())[CODES[item][level]] for level in range(3))
         for item in range(ITEMS)]
    )  # fmt: skip
    torch.testing.assert_close(everything[1], by_hand, rtol=1e-4, atol=1e-4)
    some = torch.tensor([[3, 1], [0, 11], [5, 5], [2, 7]])
    torch.testing.assert_close(model.item_scores(state, some), everything.gather(1, some), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_generator_finds_the_best_items_of_all() -> None:
    model = make_llm()
    histories = worlds.sequences_of(ROWS)
    found = Generator(model, make_table(), DecodingConfig(beam=ITEMS)).recommend(histories, 5, mode="generate")
    scores, items = model.item_scores(model.encode(batch(model))).topk(5)
    assert found.items.tolist() == items.tolist()
    torch.testing.assert_close(torch.from_numpy(found.scores), scores, rtol=1e-4, atol=1e-4)
    rescored = Generator(model, make_table(), DecodingConfig(beam=ITEMS)).recommend(histories, 5)
    assert rescored.items.tolist() == items.tolist()
    ranked = Generator(model, make_table(), DecodingConfig(beam=ITEMS)).recommend(histories, 5, mode="rank")
    assert ranked.items.tolist() == items.tolist()


def test_the_item_head_is_not_asked_where_it_has_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    model, histories = make_llm(), worlds.sequences_of(ROWS)
    both = DecodingConfig(beam=ITEMS, item_weight=1.0), DecodingConfig(beam=ITEMS, item_weight=0.0, code_weight=1.0)
    by_items = Generator(model, make_table(), both[0]).recommend(histories, 5)
    monkeypatch.setattr(LLM, "item_scores", None)
    by_codes = Generator(model, make_table(), both[1]).recommend(histories, 5)
    assert by_codes.items.tolist() == by_items.items.tolist()
    np.testing.assert_allclose(by_codes.scores, by_items.scores, rtol=1e-4)


def test_no_more_states_are_held_than_memory_is_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, histories = make_llm(), worlds.sequences_of(ROWS)
    expected = Generator(model, make_table(), DecodingConfig(beam=ITEMS)).recommend(histories, 5).items.tolist()
    monkeypatch.setattr(module, "_STATE_NUMBERS", 2 * model.max_prompt * model.state_shape.per_token)
    assert model.rows_at_once == 2
    seen: list[int] = []
    encode = LLM.encode
    monkeypatch.setattr(LLM, "encode", lambda one, batch: seen.append(len(batch)) or encode(one, batch))
    found = Generator(model, make_table(), DecodingConfig(beam=ITEMS)).recommend(histories, 5)
    assert seen == [2, 2]
    assert found.items.tolist() == expected


def test_gradients_reach_the_prompt_through_the_state() -> None:
    model = make_llm()
    total = item_log_probs(model, model.encode(batch(model)), torch.tensor([[[1, 2, 0]]]).expand(len(ROWS), -1, -1))
    total.sum().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.parameters())


@torch.inference_mode()
def test_what_does_not_fit_goes_oldest_first_and_the_instruction_stays() -> None:
    model = make_llm(max_events=50, max_prompt_tokens=20)
    assert model.max_events == (20 - len(model.prompt.head)) // 3
    long, short = list(range(12)) * 2, (list(range(12)) * 2)[-model.max_events :]
    torch.testing.assert_close(model.encode(batch(model, [long])), model.encode(batch(model, [short])))
    written = model.prompt.write(batch(model, [long]).items, model.paths)
    assert model.tokenizer.decode(written.tokens[0]).startswith("history: <a_")
    assert written.lengths.max() <= 20


def test_a_prompt_without_room_for_one_event_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"needs \d+ tokens for one event, and 4 are left"):
        make_llm(max_prompt_tokens=4)
    with pytest.raises(ConfigError, match="the model's context"):
        make_llm(prompt="a very long instruction that says much of nothing at all and goes on {history}" * 1,
                 max_prompt_tokens=500, shape=make_shape(context=16))  # fmt: skip


def test_a_prompt_around_the_history_is_spelled_as_its_text() -> None:
    model = make_llm(prompt="seen: {history}\nnext: ", separator=", ")
    written = model.prompt.write(batch(model).items, model.paths)
    expected = ["seen: <a_0><b_1><c_0>, <a_0><b_2><c_0>\nnext: ", "seen: \nnext: "]
    for row, text in zip((0, 2), expected, strict=True):
        tokens = written.tokens[row, : written.lengths[row]].tolist()
        assert tokens == model.tokenizer(text).input_ids
        assert model.tokenizer.decode(tokens) == text


def test_a_tokenizer_without_the_tokens_is_a_sentence() -> None:
    language = make_language(make_shape())
    other = SemanticIdTable(np.column_stack([CODES[:, 0] + 5, CODES[:, 1:]]), (8, 4, 2))
    model = make_llm()
    with pytest.raises(ModelError, match=r"the tokenizer of a test lacks 3 tokens .* the first is <a_5>"):
        LLM(language, other, model.config, 5)


@torch.inference_mode()
def test_twins_share_the_probability_of_their_path() -> None:
    """Ids of three levels whose last only counts: a model that was made without tokens for it."""
    codes = np.column_stack([CODES, [0] * 10 + [1, 0]])
    codes[10, :3] = codes[9, :3]
    table = SemanticIdTable(codes, (*SIZES, 2))
    model = LLM(make_language(make_shape()), table, make_llm().config, 5).eval()
    state = model.encode(batch(model))
    last = model.next_code_log_probs(state, torch.zeros(len(ROWS), 1, 3, dtype=torch.long))
    torch.testing.assert_close(last.exp(), torch.full((len(ROWS), 1, 2), 0.5))
    scores = model.item_scores(state)
    torch.testing.assert_close(scores[:, 9], scores[:, 10])
    generator = Generator(model, table, DecodingConfig(beam=ITEMS))
    found = generator.recommend(worlds.sequences_of(ROWS), 12, mode="generate")
    best = torch.tensor(found.scores[0])
    torch.testing.assert_close(best, scores[0][torch.from_numpy(found.items[0])], rtol=1e-4, atol=1e-4)


def test_a_head_that_is_no_linear_map_is_refused() -> None:
    model = make_language(make_shape()).causal
    check_supported(model, "a test")
    model.lm_head.forward = lambda hidden: torch.tanh(hidden @ model.lm_head.weight.T)
    with pytest.raises(ModelError, match="the output head of a test is more than a linear map"):
        check_supported(model, "a test")
    model.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ModelError, match="layers of sliding_attention"):
        check_supported(model, "a test")


def test_the_library_is_not_loaded_before_a_model_is_asked_for() -> None:
    rooms = "asterism.models.llm, asterism.cli.main, asterism.training.pipeline, asterism.decoding.loading"
    code = f"import {rooms}, sys; print({{'transformers', 'peft', 'tokenizers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.strip() == "set()"


def test_a_history_longer_than_what_is_read_is_refused() -> None:
    model = make_llm()
    with pytest.raises(ModelError, match="a history of 6 events is longer than the 5 read"):
        model.encode(HistoryBatch.from_sequences(worlds.sequences_of([[1] * 6]), 6))


def test_sequences_are_read_by_the_layout() -> None:
    model = make_llm()
    sequences: Sequences = worlds.sequences_of([list(range(9))])
    assert read_histories(model, sequences).items.tolist() == [[4, 5, 6, 7, 8]]
