"""What the service says to an engine is heard in its order, however its bytes arrive, and withdrawals at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from asterism.serving.engine import messages
from asterism.serving.engine.inbox import Inbox, Message, watch_for_end
from asterism.serving.ports import EngineRequest


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Where to read and where to write."""
    source, sink = os.pipe()
    yield source, sink
    for one in (source, sink):
        try:
            os.close(one)
        except OSError:
            continue


def test_messages_come_in_their_order_in_whatever_pieces(ends: tuple[int, int]) -> None:
    inbox = Inbox(ends[0])
    sent = [messages.Batch(1, ()), messages.Availability(frozenset({"a"}), frozenset()), messages.Batch(2, ())]
    whole = b"".join(map(messages.pack, sent))

    def send() -> None:
        for at in range(0, len(whole), 5):
            os.write(ends[1], whole[at : at + 5])
            time.sleep(0.001)

    sender = threading.Thread(target=send)
    sender.start()
    assert [inbox.take() for _ in sent] == sent
    sender.join()
    os.close(ends[1])
    assert inbox.take() is None
    assert inbox.take() is None


def test_withdrawals_are_heard_during_a_batch_and_forgotten_after_it(ends: tuple[int, int]) -> None:
    inbox = Inbox(ends[0])
    os.write(ends[1], messages.pack(messages.Batch(3, ())))
    assert inbox.take() == messages.Batch(3, ())
    assert inbox.withdrawn(3) == set()
    withdrawn = [messages.Withdrawn(batch, (row,)) for batch, row in ((3, 1), (2, 0), (4, 5))]
    os.write(ends[1], b"".join(map(messages.pack, [*withdrawn, messages.Batch(4, ())])))
    os.write(ends[1], messages.pack(messages.Withdrawn(3, (2,)))[:6])
    assert inbox.withdrawn(3) == {1}
    os.write(ends[1], messages.pack(messages.Withdrawn(3, (2,)))[6:])
    assert inbox.withdrawn(3) == {1, 2}
    assert inbox.withdrawn(2) == set(), "it was answered already"
    assert inbox.take() == messages.Batch(4, ())
    assert (inbox.withdrawn(3), inbox.withdrawn(4)) == (set(), {5})


def test_a_long_message_is_decoded_when_it_is_wanted(ends: tuple[int, int]) -> None:
    inbox, decoded = Inbox(ends[0]), []

    def decode(body: bytes) -> Message:
        decoded.append(len(body))
        return messages.decode_to_engine(body)

    inbox.decode_by(decode)
    long = messages.Batch(2, tuple(EngineRequest((), 10, user_id="x" * 50) for _ in range(10)))
    rows = messages.Withdrawn(1, tuple(range(300)))  # nobody says so much at once, but who did would be understood
    sent = [
        messages.Batch(1, ()),
        long,
        messages.Withdrawn(1, (0,)),
        rows,
        messages.Availability(frozenset(), frozenset()),
    ]
    os.write(ends[1], b"".join(map(messages.pack, sent)))
    assert inbox.take() == sent[0]
    assert inbox.withdrawn(1) == {0}
    assert max(decoded) < 100
    assert inbox.take() == long
    assert inbox.take() == sent[-1]
    assert len(decoded) == len(sent)


@pytest.mark.parametrize("length", [2, 1000])
def test_what_is_no_message_hides_nothing_that_came_before_it(ends: tuple[int, int], length: int) -> None:
    inbox = Inbox(ends[0])
    good, no_message = messages.pack(messages.Batch(1, ())), b"\xc1" * length
    os.write(ends[1], good + length.to_bytes(messages.LENGTH_BYTES, "big") + no_message)
    os.close(ends[1])
    assert inbox.take() == messages.Batch(1, ())
    with pytest.raises(msgspec.DecodeError):
        inbox.take()


def test_the_end_is_seen_during_a_batch_too(ends: tuple[int, int]) -> None:
    inbox = Inbox(ends[0])
    os.write(ends[1], messages.pack(messages.Batch(1, ())))
    inbox.take()
    os.close(ends[1])
    assert inbox.withdrawn(1) == set()
    assert inbox.take() is None


@pytest.mark.parametrize("is_loaded", [False, True])
def test_who_closes_while_the_model_loads_is_noticed(ends: tuple[int, int], is_loaded: bool) -> None:
    over, noticed = threading.Event(), threading.Event()
    watch_for_end(ends[0], over, noticed.set)
    os.write(ends[1], b"something")
    assert not noticed.wait(0.05)
    if is_loaded:
        over.set()
    os.close(ends[1])
    assert noticed.wait(0.5) is not is_loaded


def test_what_is_no_message_is_told_when_the_next_order_is_wanted_and_hides_nothing(ends: tuple[int, int]) -> None:
    inbox = Inbox(ends[0])
    good = messages.Batch(1, ())
    no_message = b"\xc1\xc1"
    os.write(ends[1], messages.pack(good) + len(no_message).to_bytes(messages.LENGTH_BYTES, "big") + no_message)
    assert inbox.take() == good
    assert inbox.withdrawn(1) == set()
    with pytest.raises(msgspec.DecodeError):
        inbox.take()
