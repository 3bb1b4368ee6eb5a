"""Windows over older events: their edges by hand, their means against a loop, their cost by counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.models.windows import OlderEvents, window_counts, window_edges
from models.small_ugt import event_vector, full_sequences, make_model


def test_each_window_is_twice_as_long_as_the_one_after_it() -> None:
    assert window_edges(70, 3).tolist() == [0, 10, 30, 70]
    assert window_edges(950, 8).tolist() == [0, 4, 11, 26, 56, 115, 235, 473, 950]
    assert window_edges(9_950, 1).tolist() == [0, 9_950]


def test_windows_fill_from_the_newest_event_on() -> None:
    edges = np.array([0, 10, 30, 70])
    counts = window_counts(np.array([0, 7, 10, 31, 70]), edges)
    assert counts.tolist() == [[0, 0, 0], [0, 0, 7], [0, 0, 10], [1, 20, 10], [40, 20, 10]]


def slow_windows(times: list[int], items: list[int], reading: tuple[int, int, int]) -> list[tuple[list[int], int]]:
    """(items, mean time) of each window of one history, oldest window first, event by event."""
    max_events, max_history, summaries = reading
    edges = window_edges(max_history - max_events, summaries).tolist()
    windows: list[tuple[list[int], list[int]]] = [([], []) for _ in range(summaries)]
    for place, (item, time) in enumerate(zip(items, times, strict=True)):
        age = len(items) - 1 - place - max_events
        for window in range(summaries):
            if edges[window] <= age < edges[window + 1]:
                windows[window][0].append(item)
                windows[window][1].append(time)
    return [(picked, sum(moments) // len(moments) if moments else 0) for picked, moments in reversed(windows)]


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    reading=st.tuples(st.integers(1, 6), st.integers(8, 50), st.integers(1, 5)),
)
def test_windows_agree_with_a_loop_over_events(lengths: list[int], reading: tuple[int, int, int]) -> None:
    sequences = full_sequences(lengths)
    older = OlderEvents.of(sequences, *reading)
    taken = 0
    for row in range(len(lengths)):
        events = sequences.row(row)
        slow = slow_windows(sequences.timestamps[events].tolist(), sequences.items[events].tolist(), reading)
        for window, (items, mean_time) in enumerate(slow):
            count = int(older.counts[row, window])
            assert older.items[taken : taken + count].tolist() == items
            assert int(older.timestamps[row, window]) == mean_time
            taken += count
    assert taken == len(older.items)


@pytest.mark.parametrize("changes", [{}, {"id_vectors": False}, {"content": False}])
def test_a_windows_token_is_the_mean_of_its_events(changes: dict[str, object]) -> None:
    model = make_model(summaries=3, max_history=20, **changes)
    assert model.prefix.windows is not None
    older = OlderEvents.of(full_sequences([20, 3, 9]), 5, 20, 3)
    fast = model.prefix.windows(older, model.items, model.seen)
    places = older.items.split(older.counts.flatten().tolist())
    slow = [
        torch.stack([event_vector(model, item) for item in items]).mean(dim=0)
        + model.prefix.windows.window.weight[place % 3]
        for place, items in enumerate(places)
        if len(items)
    ]
    assert 0 < len(slow) < 9, "some windows are empty and have no token"
    torch.testing.assert_close(fast, torch.stack(slow))


def test_ten_thousand_events_are_read_once_each() -> None:
    model = make_model(summaries=8, max_history=10_000)
    rows_read = []
    for events in (1_005, 2_005, 4_005, 10_000, 30_000):
        batch = full_sequences([events, events // 2])
        older = OlderEvents.of(batch, 5, 10_000, 8)
        rows_read.append(len(older.items))
        assert older.counts.shape == (2, 8), "as many tokens, however long the history"
        assert model.prefix.windows is not None
        assert torch.isfinite(model.prefix.windows(older, model.items, model.seen)).all()
    assert rows_read == [1_000 + 497, 2_000 + 997, 4_000 + 1_997, 9_995 + 4_995, 9_995 + 9_995]


def test_no_vector_of_every_older_event_is_made() -> None:
    """The largest tensor that pooling makes holds a few numbers an event, not a vector."""
    model = make_model(summaries=4, max_history=10_000, width=256, heads=2)
    older = OlderEvents.of(full_sequences([10_000]), 5, 10_000, 4)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, tuple) else (out,):
                if isinstance(one, torch.Tensor):
                    largest = max(largest, one.numel())
            return out

    assert model.prefix.windows is not None
    with torch.no_grad(), Sizes():
        model.prefix.windows(older, model.items, model.seen)
    assert largest <= 3 * len(older.items), "codes of three levels an event"
