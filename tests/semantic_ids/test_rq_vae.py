"""What the learned methods promise beyond the suite over all methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.core.errors import TrainingError
from asterism.semantic_ids import Quantizer, fit, rq_vae
from asterism.semantic_ids.autoencoder import Mlp
from asterism.semantic_ids.codebooks import Codebooks
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


def test_before_the_first_step_rq_kmeans_plus_is_residual_kmeans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rq_vae, "_LEARNING_RATE", 0.0)
    monkeypatch.setattr(rq_vae, "_LEAST_GAIN", 1.0)
    vectors = curved(200)
    plus = error_left(fit(vectors, config_of("rq-kmeans+", epochs=1, codebook_update="gradient"), 0), vectors)
    assert_allclose(plus, error_left(fit(vectors, config_of("rq-kmeans"), 0), vectors), rtol=1e-3)


def test_training_ends_when_the_error_no_longer_falls(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rq_vae, "_PATIENCE_STEPS", 10)
    fit(np.repeat(np.eye(4), 5, axis=0), config_of("rq-kmeans+", epochs=10_000), 0)
    assert "converged after 10 epochs; error left 0.0000, collisions 80.00%" in capsys.readouterr().err


def test_numbers_that_blow_up_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rq_vae, "_LEARNING_RATE", 1e30)
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


def test_layers_that_do_not_fit_are_refused() -> None:
    arrays = Mlp((3, 4, 2), shortcut=False).arrays()
    with pytest.raises(ValueError, match="do not fit each other"):
        Mlp.from_arrays(arrays | {"layers.1.weight": np.zeros((2, 5), dtype=np.float32)})
    with pytest.raises(ValueError, match=r"layers\.0\.bias"):
        Mlp.from_arrays(arrays | {"layers.0.bias": np.zeros(9, dtype=np.float32)})
