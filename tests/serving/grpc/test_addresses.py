from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from asterism.core.errors import ConfigError
from asterism.serving.grpc.addresses import checked, make_room, socket_in, socket_path


@pytest.mark.parametrize("address", ["unix:/run/engine.sock", "localhost:9000", "10.0.0.1:1", "[::1]:65535"])
def test_an_address_is_taken_as_it_is(address: str) -> None:
    assert checked(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "unix:",
        "localhost",
        "host:70000",
        "http://host:1",
        "a b:1",
        f"unix:/{'x' * 101}",
        "unix:/50%20",
        "unix:/a?b",
        "unix:/a#b",
    ],
)
def test_what_is_no_address_is_a_sentence(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address|is longer than|which gRPC cannot read"):
        checked(address)


def test_a_socket_lies_in_its_folder_or_where_its_path_can_be_one(tmp_path: Path) -> None:
    assert socket_in(tmp_path, "a.sock") == f"unix:{tmp_path}/a.sock"
    for folder in (tmp_path / ("deep" * 30), tmp_path / "50%20", tmp_path / "C#"):
        short = socket_in(folder, "a.sock")
        assert checked(short) == short == socket_in(folder, "a.sock")
        assert short != socket_in(folder, "b.sock")


def test_room_is_made_where_a_dead_process_listened_and_nowhere_else(tmp_path: Path) -> None:
    address = socket_in(tmp_path / "run", "a.sock")
    path = socket_path(address)
    assert path is not None
    make_room(address)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(ConfigError, match="in use by another process"):
            make_room(address)
    assert path.exists()
    make_room(address)
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is a file and no socket"):
        make_room(address)
    assert path.read_text() == "mine"
    os.unlink(path)
