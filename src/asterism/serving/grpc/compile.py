"""Makes the Python modules of the .proto files anew: `python -m asterism.serving.grpc.compile` (needs grpcio-tools)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

PROTO_FOLDER: Final = Path(__file__).parent / "proto"
_SOURCE_ROOT: Final = Path(__file__).parents[3]


def compile_protos(output: Path) -> None:
    """Write the modules and their types below a folder that stands for the source root; raises `RuntimeError`."""
    protoc = importlib.import_module("grpc_tools.protoc")
    files = sorted(str(one) for one in PROTO_FOLDER.glob("*.proto"))
    options = [f"--{kind}={output}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    if protoc.main(["protoc", f"--proto_path={_SOURCE_ROOT}", *options, *files]) != 0:
        raise RuntimeError("protoc refused; it said above why")


if __name__ == "__main__":
    compile_protos(_SOURCE_ROOT)
