from __future__ import annotations

import socket

import pytest

from asterism.core.errors import ConfigError
from asterism.serving.http.listening import take_port, url_of


def test_a_free_port_is_taken_and_named() -> None:
    with take_port("127.0.0.1", 0) as taken:
        assert url_of(taken) == f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert taken.proto == socket.IPPROTO_TCP, "else asyncio leaves out TCP_NODELAY, and every answer waits 40 ms"


def test_a_port_is_taken_by_one() -> None:
    with take_port("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="cannot be listened on"):
        take_port("127.0.0.1", taken.getsockname()[1])


def test_a_shared_port_is_taken_by_those_who_share_it() -> None:
    with take_port("127.0.0.1", 0, shared=True) as taken:
        port = taken.getsockname()[1]
        take_port("127.0.0.1", port, shared=True).close()
        with pytest.raises(ConfigError, match="cannot be listened on"):
            take_port("127.0.0.1", port)


def test_a_host_that_is_not_ours_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="choose another with --host"):
        take_port("192.0.2.1", 8000)
