"""One conformance suite for every vector index."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import numpy as np
import pytest

from asterism.core.errors import ConfigError, StoreUnavailableError, UnknownIdError
from asterism.core.ids import IdMap
from asterism.stores.milvus_vectors import MilvusVectorIndex
from asterism.stores.reaching import Tries
from asterism.stores.vectors import ExactVectorIndex, Neighbour, VectorIndex
from contracts.servers import ServerProcess

Opener = Callable[[IdMap, np.ndarray], VectorIndex]
IDS = IdMap(["east", "north", "north-east", "west", "nothing"])
VECTORS = np.array([[2, 0], [0, 3], [1, 1], [-5, 0], [0, 0]], dtype=np.float32)


@pytest.fixture(params=["exact", "milvus"])
def opener(request: pytest.FixtureRequest, prefix: str) -> Iterator[Opener]:
    """Opens an index that holds these vectors."""
    if request.param == "exact":
        yield ExactVectorIndex
        return
    _, port = request.getfixturevalue("milvus")
    opened: list[MilvusVectorIndex] = []

    def fill(items: IdMap, vectors: np.ndarray) -> VectorIndex:
        opened.append(MilvusVectorIndex(f"milvus://127.0.0.1:{port}/{prefix}?index=FLAT", timeout_seconds=60.0))
        opened[-1].put(items.ids, vectors)
        return opened[-1]

    yield fill
    for one in opened:
        one.close()


@pytest.fixture
def index(opener: Opener) -> VectorIndex:
    return opener(IDS, VECTORS)


def test_neighbours_by_cosine_nearest_first(index: VectorIndex) -> None:
    found = index.nearest("east", 2)
    assert found == [Neighbour("north-east", pytest.approx(0.5**0.5)), Neighbour("north", pytest.approx(0.0))]


def test_never_the_item_itself_nor_an_excluded_one(index: VectorIndex) -> None:
    found = index.nearest("east", 10, exclude=["north-east", "no such item"])
    assert {one.item_id for one in found[:2]} == {"north", "nothing"}, "both at right angles"
    assert [one.item_id for one in found[2:]] == ["west"]


def test_an_unknown_item_is_named(index: VectorIndex) -> None:
    with pytest.raises(UnknownIdError, match="'south'"):
        index.nearest("south", 1)


def test_similarities_are_cosines_and_zero_where_there_is_no_vector(index: VectorIndex) -> None:
    cosines = index.similarities(["east", "south"], ["west", "north-east", "south"])
    assert np.allclose(cosines, [[-1, 0.5**0.5, 0], [0, 0, 0]])

    assert index.similarities([], ["west"]).shape == (0, 1)
    assert np.allclose(index.similarities(["south"], ["nobody"]), 0)


def test_wrong_shapes_and_values_are_refused(opener: Opener) -> None:
    with pytest.raises(ValueError, match="do not fit 5 items"):
        opener(IDS, VECTORS[:3])
    with pytest.raises(ValueError, match="not finite"):
        opener(IDS, np.full((5, 2), np.nan))
    index = opener(IDS, VECTORS)
    with pytest.raises(ValueError, match="of width 3 do not fit those of width 2"):
        index.put(["new"], np.ones((1, 3)))
    assert len(index) == 5


def test_a_new_item_is_found_and_a_replaced_one_moves(index: VectorIndex) -> None:
    index.put(["east-too", "north"], np.array([[7.0, 0.1], [9.0, 0.0]]))
    assert [one.item_id for one in index.nearest("east", 2)] == ["north", "east-too"]
    assert index.nearest("east-too", 1)[0].item_id in {"east", "north"}
    assert len(index) == 6
    index.put([], np.zeros((0, 2)))
    assert len(index) == 6


@pytest.mark.parametrize("odd", ["é⭐", '"', "' or 1 == 1 or '", "\\", "{}", "\x00", "", "x" * 5000])
def test_an_odd_id_is_an_id_like_any_other(index: VectorIndex, odd: str) -> None:
    index.put([odd], np.array([[2.0, 0.2]]))
    assert index.nearest("east", 1)[0].item_id == odd
    assert [one.item_id for one in index.nearest(odd, 1)] == ["east"]
    assert [one.item_id for one in index.nearest("east", 1, exclude=[odd])] == ["north-east"]


def test_every_index_agrees_with_the_plain_product(opener: Opener) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16))
    index = opener(IdMap(f"i{number}" for number in range(300)), vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for asked in (0, 150, 299):
        cosines = unit @ unit[asked]
        cosines[asked] = -2
        best = np.argsort(-cosines)[:20]
        found = index.nearest(f"i{asked}", 20)
        assert [one.item_id for one in found] == [f"i{one}" for one in best]
        assert np.allclose([one.similarity for one in found], cosines[best], atol=1e-5)


def test_an_approximate_index_finds_nearly_all(milvus: tuple[ServerProcess, int], prefix: str) -> None:
    _, port = milvus
    vectors = np.random.default_rng(1).normal(size=(400, 8))
    index = MilvusVectorIndex(f"milvus://127.0.0.1:{port}/{prefix}?index=HNSW", timeout_seconds=60.0)
    assert (len(index), index.similarities(["a"], ["b"]).tolist()) == (0, [[0.0]])
    with pytest.raises(UnknownIdError, match="'a' has no vector in milvus://"):
        index.nearest("a", 1)
    index.put([f"i{number}" for number in range(400)], vectors)
    exact = ExactVectorIndex(IdMap(f"i{number}" for number in range(400)), vectors)
    hits = [
        len(
            {one.item_id for one in index.nearest(f"i{asked}", 10)}
            & {n.item_id for n in exact.nearest(f"i{asked}", 10)}
        )
        for asked in range(10)
    ]
    assert sum(hits) >= 95
    index.close()


def test_what_was_put_survives_kill_9_and_a_dead_milvus_is_a_sentence_in_time(
    milvus: tuple[ServerProcess, int], prefix: str
) -> None:
    server, port = milvus
    index = MilvusVectorIndex(f"milvus://ada:secret@127.0.0.1:{port}/{prefix}", timeout_seconds=3.0, tries=Tries(2))
    patient = MilvusVectorIndex(f"milvus://127.0.0.1:{port}/{prefix}", timeout_seconds=60.0)
    patient.put(IDS.ids, VECTORS)
    patient.close()
    assert len(wait_for(lambda: index.nearest("east", 1))) == 1
    server.kill()
    began = monotonic()
    with pytest.raises(StoreUnavailableError, match=rf"Milvus at milvus://ada:\*\*\*@127.0.0.1:{port}/{prefix} cannot"):
        index.nearest("east", 2)
    assert monotonic() - began < 60
    server.start()
    found = wait_for(lambda: index.nearest("east", 1))  # the connection comes back by itself, after a pause of its own
    assert [one.item_id for one in found] == ["north-east"]
    index.close()


def wait_for(ask: Callable[[], list[Neighbour]]) -> list[Neighbour]:
    """The answer, once there is one."""
    deadline = monotonic() + 120
    while True:
        try:
            return ask()
        except StoreUnavailableError:
            assert monotonic() < deadline
            sleep(0.1)


def test_a_milvus_that_is_deaf_or_not_there_is_a_sentence_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        for port in (deaf.getsockname()[1], 1):
            index = MilvusVectorIndex(f"milvus://127.0.0.1:{port}", timeout_seconds=0.5, tries=Tries(1))
            began = monotonic()
            with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                index.nearest("east", 1)
            assert monotonic() - began < 60


def test_an_index_that_would_silently_be_another_is_refused() -> None:
    with pytest.raises(ConfigError, match="'DISKANN' is no index; known here: FLAT, HNSW"):
        MilvusVectorIndex("milvus://host?index=DISKANN")
