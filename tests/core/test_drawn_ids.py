from __future__ import annotations

import os
import re

import pytest

from asterism.core.drawn_ids import drawn_id


def test_fewer_digits_may_be_drawn() -> None:
    assert all(re.fullmatch("[0-9a-f]{16}", drawn_id(16)) for _ in range(1000))


def test_ids_are_32_digits_and_never_the_same() -> None:
    drawn = [drawn_id() for _ in range(10_000)]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in drawn)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child does nothing but draw
def test_a_forked_process_draws_others() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, drawn_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 64).decode() != drawn_id()
