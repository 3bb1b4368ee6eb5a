"""What identifies a model that lies in a folder."""

from __future__ import annotations

from pathlib import Path

from asterism.core.hashing import hash_file, hash_value

_MODEL_FILES = ("*.json", "*.safetensors", "*.bin", "*.txt", "*/*.json", "*/*.safetensors")


def hash_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's files, in hex."""
    files = sorted({file for pattern in _MODEL_FILES for file in folder.glob(pattern)})
    return hash_value({str(file.relative_to(folder)): hash_file(file) for file in files})
