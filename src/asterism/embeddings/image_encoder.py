"""Images to vectors by a CLIP-type model of the transformers library (Radford et al. 2021; Zhai et al. 2023)."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from asterism.core.errors import MissingDependencyError, ModelError
from asterism.core.progress import track
from asterism.embeddings.image_files import StoredImage
from asterism.embeddings.model_files import hash_folder

_BATCH_IMAGES = 32


class ImageEncoder:
    """A model in a folder that has image features; loaded when first needed, usable from several threads."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._model: Any = None
        self._processor: Any = None
        self._identity: str | None = None

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory yet."""
        return self._model is not None

    def identity(self) -> str:
        """Changes with the model's files; raises `ModelError` where the folder is gone."""
        if self._identity is None:
            if not Path(self.folder).is_dir():
                raise ModelError(
                    f"the image model {self.folder!r} is not a folder here; put the model's files there "
                    "(config.json, model.safetensors, preprocessor_config.json), or leave `image_model` out"
                )
            self._identity = hash_folder(Path(self.folder))
        return self._identity

    def encode(self, images: Sequence[StoredImage]) -> NDArray[np.float32]:
        """(N, d) unit vectors, zeros for what cannot be decoded.

        Computed in bf16, like texts: a vector may differ in its third digit with the images beside it. Raises
        `MissingDependencyError` without the `image` extra, `ModelError` where the folder holds no such model.
        """
        self.identity()
        with self._lock:
            if self._model is None:
                self._model, self._processor = _load(self.folder)
            starts = range(0, len(images), _BATCH_IMAGES)
            encoded = [
                self._encode_batch(images[start : start + _BATCH_IMAGES]) for start in track(starts, "image vectors")
            ]
        width = max((batch.shape[1] for batch in encoded), default=1)
        return np.concatenate([np.zeros((0, width), np.float32), *(_widened(batch, width) for batch in encoded)])

    def _encode_batch(self, batch: Sequence[StoredImage]) -> NDArray[np.float32]:
        pictures = [_decode(image) for image in batch]
        readable = [row for row, picture in enumerate(pictures) if picture is not None]
        if not readable:
            return np.zeros((len(batch), 1), dtype=np.float32)
        inputs = self._processor(images=[pictures[row] for row in readable], return_tensors="pt")
        features = _image_features(self._model, dict(inputs), self.folder)
        vectors = np.zeros((len(batch), features.shape[1]), dtype=np.float32)
        vectors[readable] = normalize(features.float(), dim=1).cpu().numpy()
        return vectors


def _widened(batch: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """A batch without any picture does not know how wide the others are."""
    return batch if batch.shape[1] == width else np.zeros((len(batch), width), dtype=np.float32)


def _decode(image: StoredImage) -> Any:
    """An upright RGB picture, transparent places white; None where the bytes are no whole image."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(image.content())) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGBA")
    except Exception:  # decoding runs other people's code on other people's bytes: what it may raise is open
        return None
    ground = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(ground, upright).convert("RGB")


def _image_features(model: Any, inputs: dict[str, torch.Tensor], folder: str) -> torch.Tensor:
    device, dtype = model.device, model.dtype
    placed = {
        name: one.to(device, dtype) if one.is_floating_point() else one.to(device) for name, one in inputs.items()
    }
    with torch.inference_mode():
        found = model.get_image_features(**placed)
    features: Any = found if isinstance(found, torch.Tensor) else getattr(found, "pooler_output", None)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise ModelError(f"the image model in {folder!r} gives no single vector an image; take a CLIP or SigLIP model")
    if not bool(torch.isfinite(features).all()):
        raise ModelError(f"the image model in {folder!r} gives vectors that are not finite; its weights are broken")
    return features


def _load(folder: str) -> tuple[Any, Any]:
    try:
        import PIL  # noqa: F401
        from transformers import AutoImageProcessor, AutoModel
    except ImportError as error:
        raise MissingDependencyError(
            f"the image model {folder!r} needs transformers and Pillow; run `pip install 'asterism[image]'`"
        ) from error
    try:
        processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, backend="pil"
        )
        model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.bfloat16)
    except Exception as error:  # loading runs other people's code and files: what it may raise is open
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise ModelError(
            f"the image model in {folder!r} cannot be loaded ({type(error).__name__}: {reason[0]}); "
            "the folder must hold config.json, the weights and preprocessor_config.json"
        ) from error
    if not hasattr(model, "get_image_features"):
        raise ModelError(
            f"{folder!r} holds a {type(model).__name__}, which makes no vectors of images; take a CLIP or SigLIP model"
        )
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), processor
