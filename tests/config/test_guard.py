"""`[guard]` of a deployment's file: what it takes, and what it says of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from asterism.config.guard import GuardConfig
from asterism.config.stores import load_deployment
from asterism.core.errors import ConfigError


def test_a_guard_is_read_from_the_deployments_file(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('[guard]\norigins = ["https://shop.example:8443"]\nkey_per_second = { recommend = 5 }')
    guard = load_deployment(file).guard
    assert guard == GuardConfig(origins=("https://shop.example:8443",), key_per_second={"recommend": 5.0})
    assert (guard.keys, guard.instance_per_second) == ("auto", 10_000.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("key = 'auto'", "`guard.key` is not a key; did you mean `keys`"),
        ("keys = 'on'", "`guard.keys`: Input should be 'auto' or 'off'"),
        ("instance_per_second = 0", "`guard.instance_per_second`"),
        ("key_per_second = { recommend = -1 }", "`guard.key_per_second.recommend`"),
        *(
            (f"origins = ['{origin}']", "`guard.origins.0`: give an origin as browsers send it")
            for origin in ("*", "https://shop.example/", "shop.example", "HTTPS://shop.example", "https://a b", "null")
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(f"[guard]\n{text}")
    with pytest.raises(ConfigError) as raised:
        load_deployment(file)
    assert reason in str(raised.value)
