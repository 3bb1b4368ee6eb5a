"""Compiled code is made once, and where it cannot be had one warning says so."""

from __future__ import annotations

import logging
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
