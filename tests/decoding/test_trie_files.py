"""A saved trie comes back as it was, takes changes of its own, and a damaged file is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import BundleError
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.trie import Trie
from asterism.decoding.trie_files import load_trie, save_trie
from decoding.slow_trie import SIZES, Paths, check_against
from decoding.table_policy import random_table


@settings(max_examples=40)
@given(sizes=st.sampled_from(SIZES), gone=st.lists(st.integers(0, 29), unique=True), seed=st.integers(0, 1000))
def test_what_is_saved_comes_back(
    tmp_path_factory: pytest.TempPathFactory, sizes: tuple[int, ...], gone: list[int], seed: int
) -> None:
    file = tmp_path_factory.mktemp("trie") / "a.trie"
    table = random_table(sizes, 30, seed)
    trie = Trie.from_table(table)
    held: Paths = {table.path_of(item): item for item in range(len(table))}
    for item in gone:
        if item < len(table):
            trie.remove(item)
            del held[table.path_of(item)]
    save_trie(file, trie)
    loaded = load_trie(file)
    check_against(loaded.snapshot(), held, [table.path_of(item) for item in range(len(table))])
    assert loaded.known_items == trie.known_items
    for item in gone:
        if item < len(table):
            loaded.set_present(item, True)
    check_against(loaded.snapshot(), {table.path_of(item): item for item in range(len(table))})
    check_against(load_trie(file).snapshot(), held)
    save_trie(file, loaded)  # over the file that is mapped
    check_against(
        load_trie(file, verify=False).snapshot(),
        loaded_paths := {table.path_of(item): item for item in range(len(table))},
    )
    check_against(loaded.snapshot(), loaded_paths)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.trie"
    save_trie(path, Trie.from_table(random_table((16, 16, 16, 2), 500)))
    return path


def test_a_missing_or_strange_file_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(BundleError, match="there is no such file"):
        load_trie(tmp_path / "b.trie")
    for content in (b"", b"no trie, but long enough to be one"):
        (tmp_path / "b.trie").write_bytes(content)
        with pytest.raises(BundleError, match="is not a saved trie"):
            load_trie(tmp_path / "b.trie")


def test_another_format_is_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[8] = 9
    file.write_bytes(content)
    with pytest.raises(BundleError, match="format 9 is not 1"):
        load_trie(file)


def test_a_changed_or_cut_file_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for place, sentence in ((30, "the header was cut or changed"), (4096 + 3, "was changed after it was written")):
        content = bytearray(whole)
        content[place] ^= 1
        file.write_bytes(content)
        with pytest.raises(BundleError, match=sentence):
            load_trie(file)
    for length, sentence in ((40, "the header was cut"), (len(whole) - 4096, "was cut short")):
        file.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=sentence):
            load_trie(file)


def test_a_failed_save_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        save_trie(file, Trie((2, 2)))
    assert file.read_bytes() == before


MEMORY = """
import sys
from pathlib import Path
from asterism.decoding.trie_files import load_trie
def mapped():
    text = Path("/proc/self/smaps").read_text()
    own = text.split(sys.argv[1])[1].split("VmFlags")[0]
    return {line.split()[0]: int(line.split()[1]) for line in own.splitlines() if line.endswith(" kB")}
trie = load_trie(Path(sys.argv[1]))
whole, clean = mapped()["Rss:"], mapped()["Private_Dirty:"] + mapped()["Anonymous:"]
for item in range(100):
    trie.remove(item)
print(whole, clean, mapped()["Private_Dirty:"])
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="tells of memory as Linux does")
def test_pages_are_shared_until_they_are_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.trie"
    random = np.random.default_rng(0)
    codes = np.unique(random.integers(0, 256, (100_000, 3)), axis=0)
    table = SemanticIdTable(
        np.concatenate([codes, np.zeros((len(codes), 1), dtype=np.int64)], axis=1), (256, 256, 256, 4)
    )
    save_trie(path, Trie.from_table(table))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    whole, owned_before, owned_after = map(int, done.stdout.split())
    assert owned_before == 0
    assert 0 < owned_after < whole / 2
