"""Configurations: strict about keys, clear about mistakes, and every shipped file parses."""

from pathlib import Path

import pytest

from asterism.config import load_run_config, parse_run_config
from asterism.core.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
MINIMAL = {"name": "x", "data": {"path": "somewhere"}}


def test_the_smallest_configuration_has_defaults() -> None:
    config = parse_run_config(MINIMAL)
    assert config.seed == 0
    assert config.semantic_ids.levels == 4
    assert 10 in config.evaluation.cutoffs


def test_an_unknown_key_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"`model\.widht` is not a key; did you mean `width`\? known here: blocks, "):
        parse_run_config({**MINIMAL, "model": {"widht": 3}})
    with pytest.raises(ConfigError, match=r"`modle` is not a key; did you mean `model`\?"):
        parse_run_config({**MINIMAL, "modle": {}})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": {"width": 0}}, r"`model\.width`: Input should be greater than or equal to 1, but it is 0"),
        ({"model": {"dropout": 1.5}}, r"`model\.dropout`: .* less than 1, but it is 1\.5"),
        ({"training": {"epochs": "many"}}, r"`training\.epochs`: .* valid integer.*but it is 'many'"),
        ({"data": {}}, r"`data`: give either `path` or `interactions`"),
        ({"data": {"path": "a", "interactions": "b"}}, r"not both"),
        ({"model": {"width": 10, "heads": 3}}, "`model`: a `width` of 10 cannot be shared by 3 `heads`"),
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
