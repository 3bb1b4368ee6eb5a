"""What the learned methods promise beyond the suite over all methods."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.core.errors import TrainingError
from asterism.semantic_ids import Quantizer, annealing, fit, rq_vae
from asterism.semantic_ids.autoencoder import Mlp
from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.residual import fit_residual_kmeans
from asterism.semantic_ids.vector_quantization import LearnedCodebooks, Quantised


def curved(rows: int = 600) -> NDArray[np.float64]:
    """A bent surface of two dimensions in twelve: what a network can unroll and a sum of centroids cannot."""
    rng = np.random.default_rng(0)
    flat = rng.uniform(-1, 1, size=(rows, 2))
    turns = rng.normal(size=(2, 12)) * 2
    return np.sin(flat @ turns + rng.uniform(0, 6, size=12)) + 2.0


def error_left(quantizer: Quantizer, vectors: NDArray[np.float64]) -> float:
    left = np.square(vectors - quantizer.reconstruct(quantizer.assign(vectors))).sum()
    return float(left / np.square(vectors - vectors.mean(axis=0)).sum())


def config_of(method: str, **values: object) -> SemanticIdConfig:
    return SemanticIdConfig.model_validate({"method": method, "levels": 3, "codes": 8, "epochs": 60, **values})


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("method", ["rq-vae", "rq-kmeans+"])
def test_learning_leaves_a_smaller_error_than_clustering_on_a_curved_surface(method: str, update: str) -> None:
    vectors = curved()
    learned = error_left(fit(vectors, config_of(method, codebook_update=update), 0), vectors)
    clustered = error_left(fit(vectors, config_of("rq-kmeans"), 0), vectors)
    assert learned < 0.9 * clustered


@pytest.mark.parametrize("method", ["rq-vae", "rq-kmeans+"])
def test_large_catalogues_are_seeded_and_measured_on_samples(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rq_vae, "_SEEDING_ROWS_PER_CODE", 20)
    monkeypatch.setattr(annealing, "_MEASURED_ROWS", 100)
    looked_at: list[int] = []

    def seed(rows: NDArray[np.float32], *rest: Any) -> Codebooks:
        looked_at.append(len(rows))
        return fit_residual_kmeans(rows, *rest)

    def learn(learning: annealing.Learning, *rest: Any) -> None:
        looked_at.append(len(learning.measured_rows))
        annealing.learn(learning, *rest)

    monkeypatch.setattr(rq_vae, "fit_residual_kmeans", seed)
    monkeypatch.setattr(rq_vae, "learn", learn)
    vectors = curved()
    assert error_left(fit(vectors, config_of(method), 0), vectors) < error_left(
        fit(vectors, config_of("rq-kmeans"), 0), vectors
    )
    assert looked_at == [8 * 20, 100]


def test_rq_kmeans_plus_keeps_its_start_where_training_only_harms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "_LEARNING_RATE", 0.5)
    vectors = curved(200)
    plus = error_left(fit(vectors, config_of("rq-kmeans+", epochs=3), 0), vectors)
    assert_allclose(plus, error_left(fit(vectors, config_of("rq-kmeans"), 0), vectors), rtol=1e-5)


def test_an_encoder_narrower_than_the_vectors_starts_at_the_directions_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(500, 4)) * [0.1, 3.0, 0.2, 1.0]).float()
    components = rq_vae._principal_components(rows, 2)
    assert_allclose(components.abs().numpy(), [[0, 1, 0, 0], [0, 0, 0, 1]], atol=0.02)
    assert len(rq_vae._principal_components(rows, 9)) == 4


def test_a_schedule_without_a_gain_ends_early(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annealing, "_LEARNING_RATE", 0.5)
    monkeypatch.setattr(annealing, "_STALE_SHARE", 0.0)
    fit(curved(100), config_of("rq-kmeans+", epochs=10_000), 0)
    assert "rq-kmeans+: converged after 10 epochs; error left 0." in capsys.readouterr().err


def test_training_ends_where_nothing_is_left_to_learn(capsys: pytest.CaptureFixture[str]) -> None:
    fit(np.repeat(np.eye(4), 5, axis=0), config_of("rq-kmeans+", epochs=10_000), 0)
    assert "rq-kmeans+: converged after 1 epochs; error left 0.0000, collisions 80.00%" in capsys.readouterr().err


def test_schedules_go_on_until_one_converges(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annealing, "_SCHEDULE_STEPS", 30)
    monkeypatch.setattr(annealing, "_STALE_EPOCHS", 31)
    falls = iter([0.5, 0.011, 0.009])
    monkeypatch.setattr(annealing, "last_fall", lambda errors, part: next(falls))
    fit(curved(100), config_of("rq-vae", epochs=1000), 0)
    assert "rq-vae: converged after 90 epochs; " in capsys.readouterr().err


def test_a_ceiling_that_came_too_soon_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    fit(curved(), config_of("rq-vae", epochs=20), 0)
    found = re.search(
        r"rq-vae: reached the ceiling of 20 epochs while the error still fell by ([0-9.]+)% per ten epochs; "
        r"raise semantic_ids.epochs; error left 0\.\d{4}, collisions \d+\.\d\d%",
        capsys.readouterr().err,
    )
    assert found is not None
    assert 1 < float(found[1]) < 100


def test_the_fall_of_the_error_by_hand() -> None:
    assert annealing.last_fall([9.0, 8.0, 6.0, 5.0, 4.0, 3.0], 5) == pytest.approx(1 / 4)
    assert annealing.last_fall([9.0, 8.0, 6.0, 5.0, 4.0, 3.0], 2) == pytest.approx(1 / 2)
    assert annealing.last_fall([0.0, 0.0], 5) == 0.0


def test_a_level_that_uses_one_code_is_named() -> None:
    vectors = np.zeros((400, 6))
    vectors[:12] = np.random.default_rng(0).normal(size=(12, 6))
    with pytest.warns(annealing.CollapseWarning) as caught:
        fit(vectors, config_of("rq-vae", epochs=2), 0)
    assert re.match(
        r"rq-vae: level a has collapsed: it uses its 8 codes as if there were 1\.\d; use fewer codes",
        str(caught[0].message),
    )


def test_numbers_that_blow_up_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "_LEARNING_RATE", 1e30)
    with pytest.raises(TrainingError, match="no longer finite"):
        fit(curved(100), config_of("rq-vae"), 0)


def learned(levels: list[list[list[float]]], *, moving_average: bool = True) -> LearnedCodebooks:
    seeds = Codebooks(tuple(np.array(one, dtype=np.float32) for one in levels))
    return LearnedCodebooks(seeds, moving_average=moving_average, generator=torch.Generator().manual_seed(0))


def test_a_moving_average_by_hand() -> None:
    codebooks = learned([[[0.0], [10.0]]])
    zero = torch.zeros(())
    batch = Quantised(zero, zero, zero, (torch.tensor([[1.0], [3.0], [9.0]]),), (torch.tensor([0, 0, 1]),))
    codebooks.update(batch)
    first = (0.99 * 0 + 0.01 * (1 + 3)) / (0.99 + 0.01 * 2)
    second = (0.99 * 10 + 0.01 * 9) / (0.99 + 0.01 * 1)
    assert_allclose(codebooks.frozen().centroids[0][:, 0], [first, second], rtol=1e-6)


def test_the_gradient_passes_straight_through_and_the_losses_by_hand() -> None:
    codebooks = learned([[[0.0], [10.0]], [[1.0]]], moving_average=False)
    latents = torch.tensor([[2.0], [9.0]], requires_grad=True)
    quantised = codebooks(latents)
    assert quantised.straight_through.tolist() == [[1.0], [11.0]]
    assert quantised.commitment.item() == pytest.approx((4 + 1) / 2 + (1 + 4) / 2)
    assert quantised.codebook_loss.item() == pytest.approx(5.0)
    quantised.straight_through.sum().backward()
    assert latents.grad is not None
    assert latents.grad.tolist() == [[1.0], [1.0]]


def test_a_dead_code_starts_anew_where_rows_are() -> None:
    codebooks = learned([[[0.0], [1.0], [1000.0]]])
    rows = torch.tensor([[0.0], [1.0], [0.1], [0.9]] * 10)
    zero = torch.zeros(())
    for _ in range(500):
        codebooks.update(Quantised(zero, zero, zero, (rows,), ((rows[:, 0] > 0.5).long(),)))
    codebooks.revive()
    assert codebooks.frozen().centroids[0].max() <= 1.0


def test_while_learning_codes_are_used_alike_even_where_one_is_nearest_to_all() -> None:
    codebooks = learned([[[0.0], [10.0]]])
    rows = torch.tensor([0.0, 0.1, 0.2, 0.3, 3.0, 3.1, 3.2, 3.3])[:, None]
    assert codebooks(rows).codes[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_network_starts_as_its_linear_map() -> None:
    turn = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, -1.0]])
    assert Mlp(turn, (4,))(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [[4.0, -2.0]]


def test_layers_that_do_not_fit_are_refused() -> None:
    arrays = Mlp(torch.ones(2, 3), (4,)).arrays()
    for name, shape in [("layers.1.weight", (2, 5)), ("shortcut", (3, 2)), ("shortcut", (1,))]:
        with pytest.raises(ValueError, match="do not fit each other"):
            Mlp.from_arrays(arrays | {name: np.zeros(shape, dtype=np.float32)})
    with pytest.raises(ValueError, match=r"layers\.0\.bias"):
        Mlp.from_arrays(arrays | {"layers.0.bias": np.zeros(9, dtype=np.float32)})
