"""Twelve items on a hidden ring, small policies that know nothing of them, and what alignment needs to teach it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asterism.config import AlignmentConfig, DecodingConfig, LLMConfig, ModelConfig
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Cases
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.trie import Trie
from asterism.models.llm import LLM, LanguageModel
from asterism.models.llm.backbone import build_model
from asterism.models.llm.tokenizers import train_tokenizer
from asterism.models.llm.vocabulary import add_code_tokens
from asterism.models.policy import read_histories
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.training.alignment.distribution import ItemDistribution
from asterism.training.alignment.lessons import Method, TrainablePolicy
from asterism.training.alignment.loop import Steering, align
from asterism.training.alignment.outcome import AlignmentResult
from asterism.training.alignment.questions import Questions, newest_questions
from asterism.training.alignment.rollouts import Roller
from models.small_llm import make_shape
from worlds import markov_chain

ITEMS = 12
CODES = np.array([[item // 4, item % 4, 0] for item in range(ITEMS)], dtype=np.int32)
TABLE = SemanticIdTable(CODES, (3, 4, 1))
SPLIT = markov_chain(users=36, items=ITEMS, length=8)
QUESTIONS: Questions = newest_questions(SPLIT.train, 3)


def new_policy(seed: int = 0, dropout: float = 0.0) -> UGT:
    torch.manual_seed(seed)
    config = ModelConfig(width=16, blocks=1, heads=2, max_events=5, dropout=dropout)
    features = ItemFeatures(torch.from_numpy(CODES).long(), (3, 4, 1), torch.eye(ITEMS))
    return UGT(features, UGTShape(config, temperature=0.3)).eval()


def new_llm(seed: int = 0) -> LLM:
    """A tiny Qwen3-type model over the same items, with random weights."""
    config = LLMConfig(prompt="history: {history}", max_prompt_tokens=60)
    shape = make_shape(layers=1, feed_forward=64)
    tokenizer = train_tokenizer(["a word"], shape.vocabulary, shape.context)
    add_code_tokens(tokenizer, TABLE.codebook_sizes)
    torch.manual_seed(seed)
    return LLM(LanguageModel(build_model(shape, tokenizer), tokenizer, "a test"), TABLE, config, 5).eval()


POLICIES = {"ugt": new_policy, "llm": new_llm}


def roller(kind: str) -> Roller:
    distribution = ItemDistribution.of(kind, TABLE, DecodingConfig(code_weight=0.5), HistoryHeads())
    return Roller(Trie.from_table(TABLE).snapshot(), distribution, ITEMS)


def settings(**changes: object) -> AlignmentConfig:
    usual: dict[str, object] = {
        "candidates": ITEMS,
        "batch_users": 36,
        "learning_rate": 0.02,
        "dropout": False,
        "max_kl": 100.0,
        "patience": 1000,
        "validations": 1,
    }
    return AlignmentConfig.model_validate(usual | changes)


@torch.no_grad()
def shares(
    policy: TrainablePolicy, kind: str, cases: Cases = QUESTIONS.cases, *, seen: bool = False
) -> NDArray[np.float64]:
    """(cases, ITEMS) the policy's probability of each item, among those not in the history or, if `seen`, all."""
    policy.eval()
    histories = read_histories(policy, cases.histories)
    everything = torch.arange(ITEMS).expand(len(cases), -1)
    distribution = roller(kind).distribution
    scores = distribution.scores(policy, policy.encode(histories), distribution.candidates(histories, everything))
    rows = np.repeat(np.arange(len(cases)), cases.histories.lengths)
    had = cases.histories.items != cases.targets[rows]  # a repeat may be the answer
    if not seen:
        scores[rows[had], cases.histories.items[had]] = -torch.inf
    found: NDArray[np.float64] = scores.softmax(1).double().numpy()
    return found


def aligned(
    policy: TrainablePolicy, method: Method, config: AlignmentConfig, folder: Path, kind: str = "served"
) -> tuple[AlignmentResult, list[str]]:
    """Align, steered by the probability of the right item in the validation cases."""
    told: list[str] = []
    targets = SPLIT.validation.targets

    def validate(one: TrainablePolicy) -> NDArray[np.float64]:
        return shares(one, kind, SPLIT.validation)[np.arange(len(targets)), targets]

    return align(policy, method, config, Steering(validate, folder, 0, told.append)), told
