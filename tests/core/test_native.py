"""Compiled code is made once, and where it cannot be had one warning says so."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from ctypes import c_int64
from pathlib import Path

import pytest

from asterism.core import native

TWICE = 'extern "C" long twice(long x) { return 2 * x; }\n'


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ASTERISM_CACHE", str(tmp_path / "kept"))
    monkeypatch.delenv(native.SWITCH, raising=False)
    native.library.cache_clear()
    yield tmp_path / "kept" / "native"
    native.library.cache_clear()


def source_of(folder: Path, text: str) -> Path:
    file = folder / "small.cpp"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_function_is_compiled_once_and_again_when_its_source_changes(tmp_path: Path, own_cache: Path) -> None:
    source = source_of(tmp_path, TWICE)
    twice = native.function(source, "twice", (c_int64,), c_int64)
    assert twice is not None
    assert twice(1 << 40) == 1 << 41
    (first,) = own_cache.iterdir()
    made = first.stat().st_mtime_ns
    native.library.cache_clear()
    assert native.library(source) is not None
    assert [one.stat().st_mtime_ns for one in own_cache.iterdir()] == [made]
    native.library.cache_clear()
    changed = native.function(source_of(tmp_path, TWICE.replace("2", "3")), "twice", (c_int64,), c_int64)
    assert changed is not None
    assert changed(7) == 21
    assert len(list(own_cache.iterdir())) == 2


def test_what_cannot_be_compiled_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = source_of(tmp_path, "this is no program")
    with caplog.at_level(logging.WARNING):
        assert native.library(source) is None
        assert native.function(source, "twice", (c_int64,)) is None
    (record,) = caplog.records
    assert "small.cpp cannot be compiled" in record.getMessage()
    assert "error" in record.getMessage()


def test_a_missing_compiler_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(tmp_path, TWICE)
    monkeypatch.setattr(native, "_COMPILERS", ())
    monkeypatch.delenv("CXX", raising=False)
    with caplog.at_level(logging.WARNING):
        assert native.library(source) is None
        native.library.cache_clear()
        assert native.library(source) is None
    assert len(caplog.records) == 1
    assert "there is no C++ compiler" in caplog.text
    assert "install g++" in caplog.text


def test_it_can_be_switched_off_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(native.SWITCH, "0")
    with caplog.at_level(logging.WARNING):
        assert native.library(source_of(tmp_path, TWICE)) is None
    assert not caplog.records


def test_a_folder_that_cannot_be_written_is_replaced_by_one_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("ASTERISM_CACHE", str(tmp_path / "file"))
    assert native.library(source_of(tmp_path, TWICE)) is not None


def counting_compiler(folder: Path) -> Path:
    """A compiler that writes down each time that it compiles."""
    real = next(found for one in ("c++", "g++", "clang++") if (found := shutil.which(one)))
    file = folder / "compiler"
    log = folder / "compiled"
    log.write_text("", encoding="utf-8")
    script = f'#!/bin/sh\n[ "$1" = --version ] || echo once >> "{log}"\nexec "{real}" "$@"\n'
    file.write_text(script, encoding="utf-8")
    file.chmod(0o755)
    return file


def times_compiled(folder: Path) -> int:
    return len((folder / "compiled").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_damaged_file_is_compiled_again(
    left: float, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", str(counting_compiler(tmp_path)))
    source = source_of(tmp_path, TWICE)
    assert native.library(source) is not None
    (file,) = own_cache.iterdir()
    whole = file.read_bytes()
    file.unlink()  # what is loaded lies in another file than the damaged one
    file.write_bytes(whole[: int(left * len(whole))])
    for _ in range(2):
        native.library.cache_clear()
        twice = native.function(source, "twice", (c_int64,), c_int64)
        assert twice is not None
        assert twice(21) == 42
        assert times_compiled(tmp_path) == 2, "and once only"
    assert list(own_cache.iterdir()) == [file]
    assert not caplog.records


def test_what_was_compiled_is_used_where_the_compiler_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(tmp_path, TWICE)
    assert native.library(source) is not None
    monkeypatch.setattr(native, "_COMPILERS", ())
    monkeypatch.delenv("CXX", raising=False)
    native.library.cache_clear()
    twice = native.function(source, "twice", (c_int64,), c_int64)
    assert twice is not None
    assert twice(4) == 8
    assert not caplog.records
    native.library.cache_clear()
    assert native.library(source_of(tmp_path, TWICE.replace("2", "3"))) is None, "but not for another source"


def test_what_was_compiled_is_used_from_a_folder_that_cannot_be_written(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(counting_compiler(tmp_path)))
    source = source_of(tmp_path, TWICE)
    assert native.library(source) is not None
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and may(path, mode))
    native.library.cache_clear()
    assert native.library(source) is not None
    assert times_compiled(tmp_path) == 1
