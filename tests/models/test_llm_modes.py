"""What learns in each mode, what stays as it was to the last bit, and where new rows start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import worlds
from asterism.core.semantic_id import SemanticIdTable
from asterism.models.llm import LLM, LanguageModel
from asterism.models.llm.growing import grow_embeddings, matrices
from asterism.models.llm.modes import trainable_tensors
from asterism.models.llm.rows import GrownEmbedding, vocabulary_logits
from asterism.models.llm.tokenizers import train_tokenizer
from asterism.models.llm.vocabulary import add_code_tokens, code_tokens
from asterism.models.paths import item_log_probs
from asterism.models.policy import read_histories
from models.small_llm import CODES, SIZES, TITLES, build_model, make_llm, make_shape, make_table


def loss_of(model: LLM) -> Tensor:
    """Something that codes and words both enter."""
    batch = read_histories(model, worlds.sequences_of([[1, 2], [3]]))
    state = model.encode(batch)
    words = vocabulary_logits(model.language, model.state_shape.unpack(state).last).logsumexp(dim=-1)
    return words.sum() - item_log_probs(model, state, model.codes[torch.tensor([[4], [5]])]).sum()


def step(model: LLM) -> None:
    learning = list(trainable_tensors(model).values())
    optimizer = torch.optim.AdamW(learning, lr=0.05, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


@pytest.mark.parametrize("tied", [True, False])
def test_only_the_rows_of_semantic_ids_learn(tied: bool) -> None:
    model = make_llm(make_shape(tied=tied), base="somewhere", mode="embeddings")
    before = {name: one.clone() for name, one in model.language.state_dict().items()}
    model.make_trainable()
    step(model)
    frozen = {name: one for name, one in model.named_parameters() if not one.requires_grad}
    assert len(frozen) > 10
    assert all(one.grad is None for one in frozen.values())
    assert len(trainable_tensors(model)) == (1 if tied else 2)
    model.merge()
    ids, after = model.code_ids(), model.language.state_dict()
    words = torch.ones(len(model.tokenizer), dtype=torch.bool).index_fill(0, ids, False)
    for name, one in after.items():
        grown = name in ("model.embed_tokens.weight", "lm_head.weight")
        rows = words if grown else slice(None)
        torch.testing.assert_close(one[rows], before[name][rows], rtol=0, atol=0)
        if grown:
            assert ((one[ids] - before[name][ids]).abs().sum(dim=1) > 0).all(), f"every code's row of {name} learned"


def test_adapters_and_rows_learn_and_the_base_stays() -> None:
    model = make_llm(base="somewhere", mode="lora", lora_rank=2)
    base = {name: one.clone() for name, one in model.language.named_parameters()}
    model.make_trainable()
    names = set(trainable_tensors(model))
    assert all("lora_" in name or name.endswith("embed_tokens.inputs") for name in names)
    assert sum("lora_" in name for name in names) == 2 * 2 * 7, "two matrices for each linear map of two layers"
    step(model)
    now = {name.replace("base_layer.", "").replace("base.", ""): one for name, one in model.language.named_parameters()}
    for name, one in base.items():
        torch.testing.assert_close(now[name], one, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["embeddings", "lora"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_merged_model_is_plain_and_computes_the_same(mode: str, tied: bool) -> None:
    model = make_llm(make_shape(tied=tied), base="somewhere", mode=mode, lora_rank=2)
    plain = set(model.language.state_dict())
    untrained = loss_of(model).item()
    model.make_trainable()
    assert loss_of(model).item() == pytest.approx(untrained, rel=1e-6), "before it learns it says what it said"
    step(model)
    trained = loss_of(model)
    assert abs(trained.item() - untrained) > 0.1
    model.merge()
    assert set(model.language.state_dict()) == plain
    assert not isinstance(model.language.get_input_embeddings(), GrownEmbedding)
    torch.testing.assert_close(loss_of(model), trained, rtol=1e-5, atol=1e-4)


def test_nothing_learns_where_nothing_shall() -> None:
    model = make_llm(base="somewhere", mode="none")
    model.make_trainable()
    assert trainable_tensors(model) == {}


@pytest.mark.parametrize("tied", [True, False])
def test_a_code_starts_in_the_direction_of_its_items_words(tied: bool) -> None:
    tokenizer = train_tokenizer(TITLES, 320, 64)
    words = len(tokenizer)
    torch.manual_seed(0)
    causal = build_model(make_shape(tied=tied), tokenizer)
    causal.resize_token_embeddings(words + 3, mean_resizing=False)  # models often have rows to spare
    before = [one.detach().clone() for one in matrices(causal)]
    add_code_tokens(tokenizer, SIZES)
    tokens = code_tokens(tokenizer, make_table(), "a test")
    grow_embeddings(causal, tokenizer, tokens, CODES, TITLES)
    assert len(matrices(causal)) == (1 if tied else 2)
    for old, new in zip(before, matrices(causal), strict=True):
        assert len(new) == words + sum(SIZES)
        torch.testing.assert_close(new[:words], old[:words], rtol=0, atol=0)
        of_items = torch.stack([old[tokenizer(title).input_ids].mean(dim=0) for title in TITLES])
        carriers = of_items[CODES[:, 0] == 1].mean(dim=0)
        length = old[:words].norm(dim=1).mean()
        row = new[tokenizer.convert_tokens_to_ids("<a_1>")]
        torch.testing.assert_close(row, functional.normalize(carriers, dim=0) * length, rtol=1e-4, atol=1e-5)
        nobody = new[tokenizer.convert_tokens_to_ids("<c_1>")]
        mean = of_items.mean(dim=0)
        assert functional.cosine_similarity(nobody, mean, dim=0) > 0.98, "near it, by a random step"
        assert nobody.norm().item() == pytest.approx(length.item(), rel=1e-4)


def test_codes_of_items_without_titles_start_near_the_others_and_apart() -> None:
    tokenizer = train_tokenizer(TITLES, 320, 64)
    words = len(tokenizer)
    torch.manual_seed(0)
    causal = build_model(make_shape(), tokenizer)
    add_code_tokens(tokenizer, SIZES)
    tokens = code_tokens(tokenizer, make_table(), "a test")
    titles = [title if 4 < item < 8 else None for item, title in enumerate(TITLES)]  # of <a_1>, without <b_0>
    grow_embeddings(causal, tokenizer, tokens, CODES, titles)
    (rows,) = matrices(causal)
    of_items = torch.stack([rows[tokenizer(TITLES[item]).input_ids].mean(dim=0) for item in range(5, 8)])
    top = rows[tokens.ids[0]]
    length = rows[:words].norm(dim=1).mean().item()
    assert top.norm(dim=1).tolist() == pytest.approx([length] * 3, rel=1e-4)
    told = functional.normalize(of_items.mean(dim=0), dim=0) * length
    torch.testing.assert_close(top[1], told, rtol=1e-4, atol=1e-5, msg="an item without a title does not count")
    likeness = functional.cosine_similarity(top[:, None], top[None], dim=2)
    assert likeness.min() > 0.9
    assert (likeness - torch.eye(3)).max() < 0.999
    assert (rows[tokens.ids[1][0]] - top[0]).norm() > 0.05 * length, "nor are codes of two levels alike"


def test_items_without_titles_can_grow_a_model_too() -> None:
    tokenizer = train_tokenizer(TITLES, 320, 64)
    causal = build_model(make_shape(), tokenizer)
    add_code_tokens(tokenizer, SIZES)
    tokens = code_tokens(tokenizer, make_table(), "a test")
    grow_embeddings(causal, tokenizer, tokens, CODES, [None] * len(CODES))
    (rows,) = matrices(causal)
    codes = torch.cat(list(tokens.ids))
    words = len(tokenizer) - sum(SIZES)
    assert rows[codes].norm(dim=1).tolist() == pytest.approx([rows[:words].norm(dim=1).mean().item()] * len(codes))
    assert len({tuple(row) for row in rows[codes].tolist()}) == len(codes), "each has a row of its own"
    model = LLM(LanguageModel(causal, tokenizer, "a test"), make_table(), make_llm().config, 5)
    assert model.code_ids().tolist() == list(range(len(tokenizer) - sum(SIZES), len(tokenizer)))


def test_two_trainings_of_a_tokenizer_agree() -> None:
    first, second = (train_tokenizer(TITLES, 320, 64) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    text = "unseen wörds — 真"
    assert first.decode(first(text).input_ids) == text


def test_a_code_that_nobody_has_needs_no_token() -> None:
    """A tokenizer made from the codes that items carry, as other programs make it."""
    table = SemanticIdTable(CODES[CODES[:, 1] != 2], SIZES)
    language = make_llm().language
    tokenizer = train_tokenizer(TITLES, 320, 64)
    tokenizer.add_tokens([f"<a_{code}>" for code in range(3)] + ["<b_0>", "<b_1>", "<b_3>", "<c_0>"])
    language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model = LLM(LanguageModel(language, tokenizer, "a test"), table, make_llm().config, 5).eval()
    state = model.encode(read_histories(model, worlds.sequences_of([[1, 2]])))
    log_probs = model.next_code_log_probs(state, torch.zeros(1, 1, 1, dtype=torch.long))[0, 0]
    assert np.isneginf(log_probs[2].item())
    torch.testing.assert_close(log_probs.exp().sum(), torch.tensor(1.0))
