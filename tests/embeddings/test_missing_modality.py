"""An item that lacks a modality stays beside its twin, whichever it lacks and whichever fusion embeds it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from asterism.embeddings import contrastive
from asterism.embeddings.contrastive import fit_learned_fusion
from asterism.embeddings.filling import References, without_part
from asterism.embeddings.fusion import FusionModel, fit_fusion
from asterism.embeddings.learned_fusion import LearnedFusion
from asterism.embeddings.part import Part
from asterism.embeddings.views import Views
from worlds import sequences_of

WIDTHS = {"text": 20, "image": 16, "collaborative": 12, "structured": 6}
WEIGHTS = {"text": 1.0, "image": 1.0, "collaborative": 1.0, "structured": 0.5}
TWINS = 40
LOSERS = np.array([0, 7, 12, 31, 44, 58, 66, 79])
SUBSETS = list(chain.from_iterable(combinations(WIDTHS, size) for size in (1, 2, 3)))
FUSIONS = ["linear", "contrastive"]


def twins(lost: tuple[str, ...] = (), losers: NDArray[np.int64] = LOSERS) -> dict[str, Part]:
    """80 items; 2k and 2k + 1 are equal in every part, and the losers lack the lost ones."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, width in WIDTHS.items():
        vectors = np.repeat(rng.normal(size=(TWINS, width)), 2, axis=0).astype(np.float32)
        present = np.ones(2 * TWINS, dtype=np.bool_)
        if name in lost:
            present[losers] = False
            vectors[losers] = 1e3  # what stands there must not matter
        parts[name] = Part(vectors, present)
    return parts


class Fitted(NamedTuple):
    fusion: FusionModel
    learned: LearnedFusion | None

    def embed(self, parts: Mapping[str, Part]) -> NDArray[np.float32]:
        joined = self.fusion.join(parts)
        linear = self.fusion.rotate(joined.rows)
        return self.learned.transform(joined.rows - self.fusion.mean, linear) if self.learned else linear


def fit(parts: Mapping[str, Part], fusion: str) -> Fitted:
    """The contrastive one learns from users who stay among ten neighbouring items."""
    model, _ = fit_fusion(parts, WEIGHTS, width=32)
    if fusion == "linear":
        return Fitted(model, None)
    rng = np.random.default_rng(1)
    train = sequences_of((rng.integers(0, 10, size=(300, 5)) + 10 * rng.integers(0, 8, size=(300, 1))).tolist())
    return Fitted(model, fit_learned_fusion(model, model.join(parts), train, seed=0))


@pytest.fixture(autouse=True, scope="module")
def short_training() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrastive, "BATCH_PAIRS", 128)
        patch.setattr(contrastive, "MAX_ROUNDS", 4)
        yield


@pytest.fixture(scope="module", params=FUSIONS)
def complete(request: pytest.FixtureRequest, short_training: None) -> Fitted:
    return fit(twins(), request.param)


def check_losers(vectors: NDArray[np.float32], least: float) -> None:
    """Each loser's twin is the nearest other item by distance, and the cosine of the two is at least `least`."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for item in LOSERS:
        distances = np.square(vectors - vectors[item]).sum(axis=1)
        distances[item] = np.inf
        assert distances.argmin() == item ^ 1
        assert unit[item] @ unit[item ^ 1] > least


@pytest.mark.parametrize("lost", SUBSETS, ids="+".join)
def test_an_item_embedded_without_some_parts_stays_beside_its_twin(complete: Fitted, lost: tuple[str, ...]) -> None:
    check_losers(complete.embed(twins(lost)), least=0.99)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("lost", WIDTHS)
def test_an_item_that_lacked_a_part_when_fitted_stays_beside_its_twin(lost: str, fusion: str) -> None:
    parts = twins((lost,))
    check_losers(fit(parts, fusion).embed(parts), least=0.99)


def test_a_lost_part_is_filled_in_from_others_never_from_itself() -> None:
    """The twin's block comes back; an item without a twin gets a mean of others, not its own block."""
    parts = twins()
    parts["text"].vectors[0] += 5.0  # item 0 keeps its twin in the other parts only
    fusion, _ = fit_fusion(parts, WEIGHTS, width=32)
    joined, references = fusion.join(parts), References(fusion.references, fusion.known)
    part_of, own = fusion.part_of_column, fusion.own_references(joined.present)
    text = [part.name for part in fusion.parts].index("text")
    filled = without_part(joined.rows, joined.present, text, references, part_of, own)
    block = joined.rows[:, part_of == text]
    assert np.abs(filled[0] - block[1]).max() < 0.01
    assert np.abs(filled[0] - block[0]).max() > 0.1


def test_training_sees_items_that_lost_one_part_that_they_had() -> None:
    parts = twins(("image",))
    fusion, _ = fit_fusion(parts, WEIGHTS, width=32)
    joined = fusion.join(parts)
    views = Views.of(fusion, joined)
    items = np.arange(2 * TWINS).repeat(50)
    whole = (joined.rows - fusion.mean)[items]
    assert (views.draw(items, 0.0, np.random.default_rng(0)).numpy() == whole).all()
    drawn = views.draw(items, 0.5, np.random.default_rng(0)).numpy()
    changed = np.stack([(drawn != whole)[:, fusion.part_of_column == part].any(axis=1) for part in range(4)], axis=1)
    assert changed.sum(axis=1).max() == 1
    assert 0.4 < changed.any(axis=1).mean() < 0.5  # an image that was never there cannot be lost
    image = [part.name for part in fusion.parts].index("image")
    assert not changed[np.isin(items, LOSERS), image].any()
    for part in range(4):
        rows = np.flatnonzero(changed[:, part])[:20]
        block = drawn[rows][:, fusion.part_of_column == part]
        assert np.allclose(block, views.filled[part].numpy()[items[rows]])


def test_what_cannot_be_filled_in_is_kept() -> None:
    """An item that has nothing else, and a catalogue too small to fill in from."""
    parts = twins(("image", "collaborative", "structured"), np.array([3]))
    fusion, _ = fit_fusion(parts, WEIGHTS, width=32)
    joined = fusion.join(parts)
    args = References(fusion.references, fusion.known), fusion.part_of_column, fusion.own_references(joined.present)
    block = joined.rows[:, fusion.part_of_column == 0]
    filled = without_part(joined.rows, joined.present, 0, *args)
    assert (filled[3] == block[3]).all()
    assert (filled[4] != block[4]).any()
    few = {name: Part(part.vectors[:8], part.present[:8]) for name, part in twins().items()}
    small, _ = fit_fusion(few, WEIGHTS, width=32)
    rows = small.join(few)
    kept = without_part(
        rows.rows,
        rows.present,
        0,
        References(small.references, small.known),
        small.part_of_column,
        small.own_references(rows.present),
    )
    assert (kept == rows.rows[:, small.part_of_column == 0]).all()
