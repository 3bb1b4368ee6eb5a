"""Configurations: strict about keys, clear about mistakes, and every shipped file parses."""

import re
import tomllib
from pathlib import Path

import pytest

from asterism.config import (
    EmbeddingConfig,
    load_reranking_config,
    load_run_config,
    parse_reranking_config,
    parse_run_config,
)
from asterism.core.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
MINIMAL = {"name": "x", "data": {"path": "somewhere"}}


def test_the_smallest_configuration_has_defaults() -> None:
    config = parse_run_config(MINIMAL)
    assert config.seed == 0
    assert config.semantic_ids.levels == 4
    assert 10 in config.evaluation.cutoffs


def test_an_unknown_key_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"`model\.widht` is not a key; did you mean `width`\? known here: actions, "):
        parse_run_config({**MINIMAL, "model": {"widht": 3}})
    with pytest.raises(ConfigError, match=r"`modle` is not a key; did you mean `model`\?"):
        parse_run_config({**MINIMAL, "modle": {}})


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError,
        match=r"`embeddings\.fields_by_kind\.song` is not a key; known here: article, movie, music, product",
    ):
        parse_run_config({**MINIMAL, "embeddings": {"fields_by_kind": {"song": ["title"]}}})


def test_text_fields_alone_hold_for_every_kind() -> None:
    alone = parse_run_config({**MINIMAL, "embeddings": {"text_fields": ["title"]}}).embeddings
    assert set(alone.fields_by_kind.model_dump().values()) == {("title",)}
    both = {"text_fields": ["title"], "fields_by_kind": {"music": ["artist"]}}
    given = parse_run_config({**MINIMAL, "embeddings": both}).embeddings
    assert given.fields_by_kind.music == ("artist",)
    assert given.fields_by_kind.movie == EmbeddingConfig().fields_by_kind.movie
    assert EmbeddingConfig.model_validate(given.model_dump()) == given


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"embeddings": {"text_fields": "title"}}, r"configuration: `embeddings\.text_fields`: .* but it is 'title'$"),
        ({"model": {"width": 0}}, r"`model\.width`: Input should be greater than or equal to 1, but it is 0"),
        ({"model": {"dropout": 1.5}}, r"`model\.dropout`: .* less than 1, but it is 1\.5"),
        ({"training": {"epochs": "many"}}, r"`training\.epochs`: .* valid integer.*but it is 'many'"),
        ({"data": {}}, r"`data`: give either `path` or `interactions`"),
        ({"data": {"path": "a", "interactions": "b"}}, r"not both"),
        ({"model": {"width": 10, "heads": 3}}, "`model`: a `width` of 10 cannot be shared by 3 `heads`"),
        ({"model": {"experts": 3, "expert_top_k": 4}}, "`model`: a token cannot ask `expert_top_k` 4 of 3 `experts`"),
        (
            {"model": {"summaries": 8, "max_history": 57}},
            "`max_history` of 57 leaves too few events beyond .* 50 for 8",
        ),
        ({"model": {"max_history": 10_001}}, r"`model\.max_history`: .* less than or equal to 10000, but it is 10001"),
        ({"training": {"item_loss_weight": 0, "code_loss_weight": 0}}, "`training`: .* are both 0"),
        ({"training": {"negatives": 0, "negative_sampling": "mixed"}}, "`training`: .* 'mixed' would draw nothing"),
        ({"training": {"alignment_weight": 0.1}, "model": {"content": False}}, "needs the item's content; set"),
        ({"training": {"learning_rate": float("inf")}}, r"`training\.learning_rate`: .*finite.* but it is inf"),
        ({"evaluation": {"cutoffs": []}}, r"`evaluation\.cutoffs`: .* at least 1 item"),
        ({"embeddings": {"precomputed": {"x": -1}}}, r"`embeddings\.precomputed\.x`: .* but it is -1"),
        ({"name": ""}, r"`name`: .* at least 1 character"),
        ({"seed": -1}, r"`seed`: .* greater than or equal to 0, but it is -1"),
        ({"semantic_ids": {"method": "magic"}}, r"`semantic_ids\.method`: Input should be 'rq-kmeans'"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_run_config({**MINIMAL, **change})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="`name` is missing"):
        parse_run_config({"data": {"path": "a"}})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_run_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_run_config(tmp_path)
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        load_run_config(tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(ConfigError, match=r"latin\.toml is not valid TOML"):
        load_run_config(tmp_path / "latin.toml")


def test_every_shipped_run_parses_and_every_key_is_commented() -> None:
    files = sorted(CONFIGS.glob("*.toml"))
    assert len(files) >= 2
    for file in files:
        load_run_config(file)
        keys = [line for line in file.read_text().splitlines() if "=" in line.split("#")[0]]
        bare = [line for line in keys if "#" not in line]
        assert keys
        assert not bare, f"{file.name}: keys without a comment: {bare}"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"shape": {"family": "bert"}},
            "`llm.shape.family`: Input should be 'llama', 'qwen2' or 'qwen3', but it is 'bert'",
        ),
        ({"shape": {"width": 30, "heads": 4}}, "a `width` of 30 gives 4 `heads` no even size"),
        ({"prompt": "no place"}, "must hold {history} once"),
        ({"mode": "lora"}, "leaves a model's weights as they are; name one as `base`"),
        ({"tasks": {"next_item": 0.0}}, "nothing would be learned"),
        ({"tasks": {"titel": 1.0}}, "`llm.tasks.titel` is not a key; known here: description_to_item"),
    ],
)
def test_a_language_model_that_cannot_be_is_a_sentence(section: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_run_config({"name": "x", "data": {"path": "y"}, "llm": section})


def test_the_shipped_reranking_parses_and_every_key_is_commented() -> None:
    file = CONFIGS / "serving" / "reranking.toml"
    assert load_reranking_config(file).is_active
    lines = file.read_text().splitlines()
    assert not [line for line in lines if "=" in line.split("#")[0] and "#" not in line]
    with_rules = "\n".join(line.removeprefix("# ") for line in lines[lines.index("# [[rules]]") :] if line != "#")
    assert [one.do for one in parse_reranking_config(tomllib.loads(with_rules)).rules] == ["pin", "boost", "bury"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"diversty": {}}, r"`diversty` is not a key; did you mean `diversity`\? known here: candidates, caps, "),
        ({"diversity": {"lambda": 1}}, r"`diversity\.lambda` is not a key; known here: method, strength$"),
        ({"diversity": {"strength": 1.0}}, r"`diversity\.strength`: .* less than 1, but it is 1"),
        ({"rules": [{"do": "pin", "item": "a"}]}, r"`rules\.0\.item` is not a key; did you mean `items`\?"),
        ({"rules": [{"do": "bury"}]}, r"`rules\.0`: name `items`, `categories` or `brands`"),
        ({"rules": [{"do": "pin", "items": ["a"]}]}, r"`rules\.0`: `slot` belongs to a rule that does `pin`"),
        ({"rules": [{"do": "bury", "items": ["a"], "factor": 2}]}, "`factor` belongs to a rule that does `boost`"),
        ({"rules": [{"do": "pin", "categories": ["a"], "slot": 1}]}, "a pin is about one item"),
        ({"rules": [{"do": "boost", "items": ["a"], "factor": 0}]}, r"`rules\.0\.factor`: .* greater than 0"),
        ({"caps": [{"category": "a"}]}, r"`caps\.0\.most` is missing"),
        ({"exploration": {"share": 0.6}}, r"`exploration\.share`: .* less than or equal to 0\.5"),
        (
            {"rules": [{"do": "pin", "items": [one], "slot": 1} for one in "ab"]},
            "'a' is pinned to slot 1 and 'b' to slot 1 in the same scene",
        ),
    ],
)
def test_a_wrong_reranking_is_explained(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_reranking_config(given)


def test_pins_of_different_scenes_may_share_a_slot() -> None:
    rules = [{"do": "pin", "items": [one], "slot": 1, "scenes": [one]} for one in "ab"]
    assert len(parse_reranking_config({"rules": rules}).rules) == 2
