"""A fitted RQ-VAE: an encoder, codebooks in its latent space, a decoder."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asterism.semantic_ids.codebooks import Codebooks
from asterism.semantic_ids.quantizer import check_vectors

_BATCH_ROWS = 16_384


class Mlp(nn.Module):
    """Linear layers with ReLU between them; with `shortcut` what they compute is added to the input."""

    def __init__(self, widths: Sequence[int], *, shortcut: bool, generator: torch.Generator | None = None) -> None:
        """Draw weights from a generator; with a shortcut the last layer is zero, and the whole the identity."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in itertools.pairwise(widths))
        self.shortcut = shortcut
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.kaiming_uniform_(parameter, nonlinearity="relu", generator=generator)
            else:
                nn.init.zeros_(parameter)
        if shortcut:
            nn.init.zeros_(cast(Tensor, self.layers[-1].weight))

    def forward(self, vectors: Tensor) -> Tensor:
        """(…, first width) → (…, last width)."""
        hidden: Tensor = self.layers[0](vectors)
        for layer in itertools.islice(self.layers, 1, None):
            hidden = layer(torch.relu(hidden))
        return vectors + hidden if self.shortcut else hidden

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights by name, `shortcut` among them."""
        named = {name: one.detach().float().numpy() for name, one in self.state_dict().items()}
        return named | {"shortcut": np.array([self.shortcut])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Mlp:
        """What `arrays` gave; raises `KeyError` or `ValueError` where it is not whole."""
        weights = dict(arrays)
        shortcut = bool(weights.pop("shortcut")[0])
        matrices = [weights[f"layers.{place}.weight"] for place in range(len(weights) // 2)]
        if any(one.shape[0] != other.shape[1] for one, other in itertools.pairwise(matrices)):
            raise ValueError("the layers of a network do not fit each other")
        network = cls([matrices[0].shape[1], *(one.shape[0] for one in matrices)], shortcut=shortcut)
        try:
            network.load_state_dict({name: torch.from_numpy(one) for name, one in weights.items()})
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        return network


@dataclass(frozen=True)
class Autoencoder:
    """A quantiser whose codes are chosen in an encoder's latent space; both networks compute in float64.

    Float32 matrix products round differently for one row and for many; float64 keeps a row's codes its own.
    """

    encoder: Mlp
    decoder: Mlp
    codebooks: Codebooks
    mean: NDArray[np.float32]  # (D,)
    scale: float  # one for all dimensions: their proportions are the weights of what was fused

    def __post_init__(self) -> None:
        self.encoder.double().requires_grad_(False)
        self.decoder.double().requires_grad_(False)

    @property
    def width(self) -> int:
        """D, the width of the vectors that are quantised."""
        return len(self.mean)

    @property
    def levels(self) -> int:
        """Levels of codes, without the de-duplication level."""
        return self.codebooks.levels

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has."""
        return self.codebooks.sizes

    def encode(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(N, latent width) where the codebooks live; raises `DataError` on broken vectors."""
        checked = check_vectors(vectors, self.width)
        standardised = (torch.from_numpy(checked).double() - torch.from_numpy(self.mean).double()) / self.scale
        return _in_batches(self.encoder, standardised).float().numpy()

    def assign(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
        """(N, levels) codes of the encoded vectors."""
        return self.codebooks.assign(self.encode(vectors))

    def reconstruct(self, codes: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """(N, D) what the decoder makes of the centroids that the first levels of `codes` name."""
        latents = torch.from_numpy(self.codebooks.reconstruct(codes)).double()
        return np.float32(self.scale) * _in_batches(self.decoder, latents).float().numpy() + self.mean

    def last_level_distances(
        self, vectors: NDArray[np.floating[Any]], codes: NDArray[np.integer[Any]]
    ) -> NDArray[np.float64]:
        """(N, K) squared latent distances to the codes of the last level."""
        return self.codebooks.last_level_distances(self.encode(vectors), codes)

    def relabelled(self, names: Sequence[NDArray[np.integer[Any]]]) -> Autoencoder:
        """The same clusters, those of each level renamed: what had code c has code names[level][c]."""
        return replace(self, codebooks=self.codebooks.relabelled(names))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Both networks, the codebooks and the standardisation by name."""
        networks = {"encoder": self.encoder, "decoder": self.decoder}
        weights = {f"{part}.{name}": one for part, mlp in networks.items() for name, one in mlp.arrays().items()}
        return {**self.codebooks.arrays(), **weights, "mean": self.mean, "scale": np.array([self.scale])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], levels: int) -> Autoencoder:
        """What `arrays` gave; raises `KeyError` or `ValueError` where it is not whole."""
        encoder, decoder = (
            Mlp.from_arrays(
                {name.removeprefix(f"{part}."): one for name, one in arrays.items() if name.startswith(part)}
            )
            for part in ("encoder", "decoder")
        )
        codebooks = Codebooks.from_arrays(arrays, levels)
        return cls(encoder, decoder, codebooks, arrays["mean"], float(arrays["scale"][0]))


def _in_batches(network: Mlp, rows: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(part) for part in torch.split(rows, _BATCH_ROWS)])
