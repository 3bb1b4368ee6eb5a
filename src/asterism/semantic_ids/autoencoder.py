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
    """A linear map, and what layers with ReLU between them add to it: nothing until they have learned."""

    def __init__(self, shortcut: Tensor, hidden: Sequence[int], generator: torch.Generator | None = None) -> None:
        """Start as the linear map `shortcut`, (E, D); the generator draws the layers' weights."""
        super().__init__()
        self.shortcut = nn.Parameter(shortcut.clone())
        widths = (shortcut.shape[1], *hidden, shortcut.shape[0])
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in itertools.pairwise(widths))
        for layer in self.layers:
            nn.init.kaiming_uniform_(cast(Tensor, layer.weight), nonlinearity="relu", generator=generator)
            nn.init.zeros_(cast(Tensor, layer.bias))
        nn.init.zeros_(cast(Tensor, self.layers[-1].weight))

    def forward(self, vectors: Tensor) -> Tensor:
        """(…, D) → (…, E)."""
        hidden: Tensor = self.layers[0](vectors)
        for layer in itertools.islice(self.layers, 1, None):
            hidden = layer(torch.relu(hidden))
        return vectors @ self.shortcut.T + hidden

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights by name."""
        return {name: one.detach().float().numpy() for name, one in self.state_dict().items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Mlp:
        """What `arrays` gave; raises `KeyError` or `ValueError` where it is not whole."""
        matrices = [arrays[f"layers.{place}.weight"] for place in range(max(1, len(arrays) // 2))]
        shortcut = arrays["shortcut"]
        if shortcut.shape != (matrices[-1].shape[0], matrices[0].shape[1]) or any(
            one.shape[0] != other.shape[1] for one, other in itertools.pairwise(matrices)
        ):
            raise ValueError("the layers of a network do not fit each other")
        network = cls(torch.from_numpy(shortcut), [one.shape[0] for one in matrices[:-1]])
        try:
            network.load_state_dict({name: torch.from_numpy(one) for name, one in arrays.items()})
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
