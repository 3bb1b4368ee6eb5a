"""Each task's examples read as text, what is asked of them, and that an epoch shows every one once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import worlds
from asterism.config import TaskWeights
from asterism.core.errors import TrainingError
from asterism.models.llm import LLM
from asterism.training.sft.batches import TokenBatches
from asterism.training.sft.example import GIVEN, TEXT, Example
from asterism.training.sft.phrases import Phrases
from asterism.training.sft.tasks import make_examples
from models.small_llm import TITLES, make_llm

TRAIN = worlds.sequences_of([[1, 2, 6], [3], []])
DESCRIPTIONS = [f"a thing called {item}" if item else None for item in range(len(TITLES))]
ITEMS = pa.table({"title": TITLES, "description": DESCRIPTIONS})


def examples(model: LLM, items: pa.Table = ITEMS, **weights: float) -> list[Example]:
    chosen = TaskWeights(**{"next_item": 0.0, **weights})
    return make_examples(Phrases(model, items), TRAIN, chosen, model.config.every_event_is_an_answer)


def parts(model: LLM, one: Example) -> tuple[str, str]:
    """What is given and what is asked for, as text."""
    decode = model.tokenizer.decode
    return decode(one.tokens[one.asked == GIVEN]), decode(one.tokens[one.asked != GIVEN])


def test_a_history_asks_for_each_of_its_events() -> None:
    model = make_llm()
    first, second = examples(model, next_item=2.0)
    assert parts(model, first) == ("history: ", "<a_0><b_1><c_0><a_0><b_2><c_0><a_1><b_2><c_0>")
    assert first.asked[first.asked != GIVEN].tolist() == [0, 1, 2] * 3
    assert first.targets[first.asked != GIVEN].tolist() == [0, 1, 0, 0, 2, 0, 1, 2, 0]
    assert first.weight == 2.0
    assert parts(model, second) == ("history: ", "<a_0><b_3><c_0>")


def test_a_prompt_that_goes_on_after_the_history_asks_event_by_event() -> None:
    model = make_llm(prompt="seen {history} next ", separator=",", max_events=1)
    found = [parts(model, one) for one in examples(model, next_item=1.0)]
    assert found == [
        ("seen  next ", "<a_0><b_1><c_0>"),
        ("seen <a_0><b_1><c_0> next ", "<a_0><b_2><c_0>"),
        ("seen <a_0><b_2><c_0> next ", "<a_1><b_2><c_0>"),
        ("seen  next ", "<a_0><b_3><c_0>"),
    ]


@pytest.mark.parametrize(
    ("task", "count", "given", "asked"),
    [
        ("title_to_item", 12, f"title: {TITLES[0]}\nitem: ", "<a_0><b_0><c_0>"),
        ("item_to_title", 12, "item: <a_0><b_0><c_0>\ntitle: ", f"{TITLES[0]}<|end|>"),
        ("next_title", 1, "history: <a_0><b_1><c_0><a_0><b_2><c_0>\ntitle: ", f"{TITLES[6]}<|end|>"),
        ("description_to_item", 11, "description: a thing called 1\nitem: ", "<a_0><b_1><c_0>"),
    ],
)
def test_what_a_task_gives_and_asks(task: str, count: int, given: str, asked: str) -> None:
    model = make_llm()
    found = examples(model, **{task: 0.5})
    assert len(found) == count
    assert parts(model, found[0]) == (given, asked)
    kinds = set(found[0].asked.tolist()) - {GIVEN}
    assert kinds == ({TEXT} if "title" in task[-5:] else {0, 1, 2})
    if kinds == {TEXT}:
        assert (found[0].targets == found[0].tokens)[found[0].asked == TEXT].all()


def test_titles_of_a_history_go_oldest_first_where_the_context_is_short() -> None:
    model = make_llm(max_prompt_tokens=60)
    (only,) = examples(model, next_item_by_titles=1.0)
    given, asked = parts(model, only)
    assert asked == "<a_1><b_2><c_0>"
    assert given.endswith(f"{TITLES[2]} <a_0><b_2><c_0>\nnext item: ")
    assert len(only) <= model.max_prompt + model.spoken
    (short,) = examples(make_llm(max_prompt_tokens=30), next_item_by_titles=1.0)
    assert TITLES[1] not in parts(model, short)[0]


@pytest.mark.parametrize(("column", "name"), [("title", "title_to_item"), ("description", "description_to_item")])
def test_a_text_too_long_for_the_context_is_cut_and_its_item_asked_for(column: str, name: str) -> None:
    model = make_llm(max_prompt_tokens=30)
    found = examples(model, pa.table({column: ["red lamp of wood " * 20] * len(TITLES)}), **{name: 1.0})
    assert len(found) == len(TITLES)
    for item, one in enumerate(found):
        given, asked = parts(model, one)
        assert given.startswith(f"{column}: red lamp")
        assert given.endswith("\nitem: ")
        assert asked == "".join(model.tokenizer.convert_ids_to_tokens(model.paths[item]))
        assert len(one) == model.max_prompt + model.spoken


def test_a_long_history_leaves_the_title_room() -> None:
    model = make_llm(max_prompt_tokens=40, max_events=20)
    long = worlds.sequences_of([[*range(len(TITLES)), 6]])
    (only,) = make_examples(Phrases(model, ITEMS), long, TaskWeights(next_item=0.0, next_title=1.0), True)
    given, asked = parts(model, only)
    assert asked == f"{TITLES[6]}<|end|>"
    assert given.endswith("<a_2><b_3><c_0>\ntitle: "), "the newest event stays"
    assert len(only) <= model.max_prompt + model.spoken < len(only) + model.spoken, "one more would not fit"


def test_what_the_context_leaves_no_answer_is_no_example() -> None:
    model = make_llm(prompt="{history}", max_prompt_tokens=10)
    some = examples(model, next_item=1.0, title_to_item=1.0, item_to_title=1.0)
    assert [one.answers for one in some] == [9, 3], "of histories alone"
    with pytest.raises(TrainingError, match=r"no example .* that 13 tokens hold; .* `llm\.max_prompt_tokens`"):
        examples(model, title_to_item=1.0, item_to_title=1.0)


def test_data_without_an_example_are_a_sentence() -> None:
    with pytest.raises(TrainingError, match="the tasks title_to_item, next_title have no example"):
        examples(make_llm(), pa.table({"item_id": TITLES}), title_to_item=1.0, next_title=1.0)


def test_the_first_token_is_never_asked_for() -> None:
    first, *_ = examples(make_llm(prompt="{history}"), next_item=1.0)
    assert first.asked[0] == GIVEN
    assert first.asked[1] == 0, "the end mark stands before the first event"


@pytest.mark.parametrize("batch_tokens", [1, 7, 64, 10_000])
def test_an_epoch_shows_every_example_once(batch_tokens: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 57)
    batches = TokenBatches(lengths, batch_tokens, seed=3)
    seen = []
    for epoch in range(3):
        batches.epoch = epoch
        found = list(batches)
        assert len(found) == len(batches)
        assert all(found)
        assert sorted(place for batch in found for place in batch) == list(range(57))
        seen.append([place for batch in found for place in batch])
    assert seen[0] != seen[1], "in another order"
    batches.epoch = 0
    assert [place for batch in batches for place in batch] == seen[0], "which the epoch decides"


def test_batches_have_about_the_tokens_that_were_asked_for() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 500)
    tokens = [int(lengths[batch].sum()) for batch in TokenBatches(lengths, 256, seed=0)]
    assert max(tokens) <= 256 + 2 * 40
    assert min(tokens) >= 256 - 2 * 40
