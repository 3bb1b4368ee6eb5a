"""`asterism export` as a user has it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from typer.testing import CliRunner

from asterism.cli.main import app, main
from asterism.core.errors import MissingDependencyError
from decoding.graph.small_bundle import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "small").path


def test_onnx_tells_how_close_the_graphs_are(bundle: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    asked = ["export", "onnx", "--bundle", str(bundle), "--out", out, "--k", "3", "--mode", "generate"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "largest difference" in done.stdout
    assert "100.00%" in done.stdout
    assert f"{out} agrees with the model" in done.stdout
    assert done.stderr == ""
    answer = onnx.load(tmp_path / "out" / "recommend.onnx").graph.output[0].type.tensor_type.shape.dim[1]
    assert answer.dim_value == 3


def test_triton(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    asked = ["export", "triton", "--bundle", str(bundle), "--out", str(out), "--max-batch", "8", "--gpu"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    text = (out / "asterism" / "config.pbtxt").read_text(encoding="utf-8")
    assert "max_batch_size: 8\n" in text
    assert "kind: KIND_GPU" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_tensorrt_without_a_gpu_is_one_sentence(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["export", "tensorrt", "--bundle", str(bundle), "--out", str(tmp_path / "plans")]
    monkeypatch.setattr(sys, "argv", ["asterism", *asked])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back afterwards
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error MissingDependencyError: a TensorRT plan needs a CUDA GPU")
    assert len(said.splitlines()) == 1


def test_without_the_packages_one_is_told_what_to_install(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("asterism.decoding.exports")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = CliRunner().invoke(app, ["export", "onnx", "--bundle", str(bundle), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, MissingDependencyError)
    assert "pip install 'asterism[export]'" in str(done.exception)
