"""The tree of known code paths: a catalogue drawn by hand, and a twin that keeps prefixes in a dictionary."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.models.ugt.code_tree import CodeTree

SIZES = (3, 4, 2)
#: Items 0 and 4 share two codes; the first codes 0 and 2 are in use, 1 is not.
CODES = torch.tensor([[2, 3, 0], [0, 1, 0], [2, 0, 1], [0, 1, 1], [2, 3, 1]])
CONTENT = torch.tensor([[1.0, 0.0], [2.0, 4.0], [5.0, 0.0], [4.0, 8.0], [0.0, 3.0]])


def make_tree() -> CodeTree:
    return CodeTree(CODES, SIZES, CONTENT, content_levels=2)


def test_nodes_lie_in_order_of_parent_and_code() -> None:
    tree = make_tree()
    assert [tree.level(number).paths.tolist() for number in range(3)] == [
        [[0], [2]],
        [[0, 1], [2, 0], [2, 3]],
        [[0, 1, 0], [0, 1, 1], [2, 0, 1], [2, 3, 0], [2, 3, 1]],
    ]
    assert [len(tree.level(number)) for number in range(3)] == [2, 3, 5]
    assert [tree.level(number).branches for number in range(3)] == [True, True, True]


def test_children_are_runs_below_their_parents() -> None:
    tree = make_tree()
    assert [tree.level(number).first.tolist() for number in range(3)] == [[0], [0, 1], [0, 2, 3]]
    assert [tree.level(number).counts.tolist() for number in range(3)] == [[2], [1, 2], [2, 1, 2]]
    found = tree.level(2).below(torch.tensor([2, 0, 2]))
    assert found.rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.nodes.tolist() == [3, 4, 0, 1, 3, 4]


def test_items_know_their_nodes_and_the_nodes_above() -> None:
    tree = make_tree()
    assert [tree.level(number).of_item.tolist() for number in range(3)] == [
        [1, 0, 1, 0, 1],
        [2, 0, 1, 0, 2],
        [3, 0, 2, 1, 4],
    ]
    items = torch.tensor([4, 1])
    assert [tree.parents_of(items, number).tolist() for number in range(3)] == [[0, 0], [1, 0], [2, 0]]


def test_unknown_prefixes_are_minus_one() -> None:
    tree = make_tree()
    assert tree.find(torch.zeros(2, 4, 0, dtype=torch.long)).tolist() == [[0] * 4] * 2
    assert tree.find(torch.tensor([[0], [1], [2]])).tolist() == [0, -1, 1]
    # Below an unknown prefix all is unknown; a key below node 0 that is smaller than any is not node -1's.
    assert tree.find(torch.tensor([[2, 3], [2, 1], [1, 3], [0, 0]])).tolist() == [2, -1, -1, -1]
    assert tree.find(torch.tensor([[2, 3, 1], [2, 0, 0], [1, 0, 1]])).tolist() == [4, -1, -1]


def test_content_is_the_mean_of_a_nodes_items() -> None:
    tree = make_tree()
    torch.testing.assert_close(tree.level(0).content, torch.tensor([[3.0, 6.0], [2.0, 1.0]]))
    torch.testing.assert_close(tree.level(1).content, torch.tensor([[3.0, 6.0], [5.0, 0.0], [0.5, 1.5]]))
    assert "content" not in dict(tree.level(2).named_buffers()), "only the first two levels have it"


def test_nothing_of_the_tree_is_saved_or_learned() -> None:
    tree = make_tree()
    assert tree.state_dict() == {}
    assert list(tree.parameters()) == []


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    items=st.integers(1, 40),
    seed=st.integers(0, 10_000),
)
def test_a_dictionary_of_prefixes_agrees(sizes: tuple[int, ...], items: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = np.stack([random.integers(0, size, items) for size in sizes], axis=1)
    content = random.normal(size=(items, 2)).astype(np.float32)
    tree = CodeTree(torch.from_numpy(codes), sizes, torch.from_numpy(content), content_levels=len(sizes))
    above: dict[tuple[int, ...], int] = {(): 0}
    for number in range(len(sizes)):
        level = tree.level(number)
        members: dict[tuple[int, ...], list[int]] = {}
        for item, path in enumerate(codes[:, : number + 1].tolist()):
            members.setdefault(tuple(path), []).append(item)
        nodes = {path: place for place, path in enumerate(sorted(members))}
        assert [tuple(path) for path in level.paths.tolist()] == list(nodes)
        asked = np.stack([random.integers(0, size, 30) for size in sizes[: number + 1]], axis=1)
        expected = [nodes.get(tuple(path), -1) for path in asked.tolist()]
        assert tree.find(torch.from_numpy(asked)).tolist() == expected
        for path, node in nodes.items():
            assert level.of_item[members[path]].tolist() == [node] * len(members[path])
            np.testing.assert_allclose(level.content[node].numpy(), content[members[path]].mean(axis=0), atol=1e-5)
        below = level.below(torch.arange(len(above)))
        pairs = list(zip(below.rows.tolist(), below.nodes.tolist(), strict=True))
        assert pairs == [(above[path[:-1]], node) for path, node in nodes.items()]
        assert level.branches == (max(level.counts.tolist()) > 1)
        above = nodes
