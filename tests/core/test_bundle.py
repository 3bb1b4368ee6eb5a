"""A bundle is whole or it is refused, and the refusal names the part."""

import json
from pathlib import Path

import pytest

from asterism.core.bundle import MANIFEST, Bundle, BundleWriter
from asterism.core.errors import BundleError, StorageError
from unreadable import not_root, open_folder


def write(target: Path, text: str = "weights", **facts: object) -> Bundle:
    writer = BundleWriter(target)
    writer.part("model.bin").write_text(text)
    writer.part("items.json").write_text("[1, 2]")
    return writer.commit(facts={"items": 2, **facts})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b")
    again = Bundle.open(tmp_path / "b")
    assert again.part("model.bin").read_text() == "weights"
    assert again.fact("items") == 2
    assert again.version == bundle.version


def test_the_version_depends_on_the_content_alone(tmp_path: Path) -> None:
    assert write(tmp_path / "one").version == write(tmp_path / "two").version
    assert write(tmp_path / "one").version != write(tmp_path / "three", text="others").version


def test_an_older_bundle_is_replaced_whole(tmp_path: Path) -> None:
    first = write(tmp_path / "b")
    second = write(tmp_path / "b", text="better")
    assert first.version != second.version
    assert Bundle.open(tmp_path / "b").part("model.bin").read_text() == "better"
    assert [one.name for one in tmp_path.iterdir()] == ["b"], "nothing is left lying about"


def test_nothing_but_a_bundle_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("u1,i1,1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / MANIFEST).write_text('{"name": "a web page has one of these too"}')
    for name in ("log.csv", "folder"):
        with pytest.raises(BundleError, match=f"{name} exists and is no bundle"):
            write(tmp_path / name)
    assert (tmp_path / "log.csv").read_text() == "u1,i1,1"
    assert (tmp_path / "folder" / MANIFEST).is_file()
    (tmp_path / "empty").mkdir()
    assert write(tmp_path / "empty").fact("items") == 2


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/b cannot be written to \(.*\); name another place"):
        BundleWriter(tmp_path / "file" / "b")


def test_an_unfinished_bundle_is_refused(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    writer.part("model.bin").write_text("weights")
    with pytest.raises(BundleError, match="there is no such folder"):
        Bundle.open(tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(BundleError, match="never finished"):
        Bundle.open(tmp_path / "c")


def test_a_missing_cut_or_changed_part_is_named(tmp_path: Path) -> None:
    part = write(tmp_path / "b").part("model.bin")
    part.write_text("Weights")
    with pytest.raises(BundleError, match=r"model\.bin was changed after the bundle was written"):
        Bundle.open(tmp_path / "b")
    part.write_text("wei")
    with pytest.raises(BundleError, match=r"model\.bin has 3 bytes, the manifest says 7"):
        Bundle.open(tmp_path / "b")
    part.unlink()
    with pytest.raises(BundleError, match=r"model\.bin is missing"):
        Bundle.open(tmp_path / "b")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "parts": {"a": {"size": 1}}}'])
def test_a_broken_manifest_is_a_sentence(tmp_path: Path, text: str) -> None:
    write(tmp_path / "b")
    (tmp_path / "b" / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(tmp_path / "b")


@pytest.mark.parametrize("changed", [{"facts": None}, {"created_at": "yesterday"}, {"created_at": None}])
def test_a_manifest_whose_entries_are_none_is_a_sentence(tmp_path: Path, changed: dict[str, object]) -> None:
    write(tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / MANIFEST).read_text())
    (tmp_path / "b" / MANIFEST).write_text(json.dumps({**manifest, **changed}))
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(tmp_path / "b")


@pytest.mark.parametrize("closed", ["model.bin", MANIFEST, "."])
def test_a_bundle_that_belongs_to_somebody_else_is_a_sentence(closed: str) -> None:
    with open_folder() as folder:
        write(folder / "b")
        (folder / "b" / closed).chmod(0)
        with (
            not_root(),
            pytest.raises(BundleError, match=r"cannot be read \(Permission denied\); let this user read it"),
        ):
            Bundle.open(folder / "b")


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / MANIFEST).read_text())
    (tmp_path / "b" / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(BundleError, match="format 99 is not 1"):
        Bundle.open(tmp_path / "b")


def test_facts_that_disagree_are_named(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b")
    bundle.check_fact("items.json", "items", 2)
    with pytest.raises(BundleError, match=r"items\.json does not belong to this bundle: its items is 3"):
        bundle.check_fact("items.json", "items", 3)
    with pytest.raises(BundleError, match="does not state 'levels'"):
        bundle.fact("levels")
    with pytest.raises(BundleError, match=r"has no part 'model\.json'; it has items\.json, model\.bin"):
        bundle.part("model.json")


@pytest.mark.parametrize("name", ["../evil", "a/b", "/etc/passwd", MANIFEST, ".."])
def test_a_part_stays_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="cannot be a part"):
        BundleWriter(tmp_path / "b").part(name)
