from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import StorageError
from asterism.stores.segments import MAGIC, START, Position, SegmentFiles, has_more, read_on


def write(folder: Path, payloads: list[bytes], segment_bytes: int = 1 << 20) -> None:
    log = SegmentFiles(folder, segment_bytes)
    for payload in payloads:
        log.append(payload)
    log.close()


def read(folder: Path) -> list[bytes]:
    log = SegmentFiles(folder)
    found = list(log.replay())
    log.close()
    return found


def starts_of(folder: Path) -> list[Position]:
    starts, log = [], SegmentFiles(folder)
    for _, place in log.lines():
        if place.line == 0:
            starts.append(Position(place.segment, place.byte))
    log.close()
    return starts


def only_segment(folder: Path) -> Path:
    (segment,) = folder.glob("*.log")
    return segment


def test_a_frame_is_magic_length_checksum_payload(tmp_path: Path) -> None:
    write(tmp_path, [b"star"])
    expected = MAGIC + (4).to_bytes(4, "little") + zlib.crc32(b"star").to_bytes(4, "little") + b"star"
    assert only_segment(tmp_path).read_bytes() == expected


def test_a_look_tells_whether_there_is_more_in_this_segment_or_the_next(tmp_path: Path) -> None:
    assert has_more(tmp_path, START), "nothing is known of a log that nobody began"
    log, position = SegmentFiles(tmp_path, segment_bytes=40), START
    for number in range(6):
        assert not has_more(tmp_path, position) or position == START
        log.append(b"%d" % number * 9)
        assert has_more(tmp_path, position)
        ((payload, position),) = read_on(tmp_path, position)
        assert payload == b"%d" % number * 9
    assert position.segment > 0
    log.close()


@given(payloads=st.lists(st.binary(min_size=1, max_size=40), max_size=8), segment_bytes=st.integers(1, 100))
@settings(max_examples=25)
def test_what_was_appended_is_replayed_over_any_segments(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], segment_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    write(folder, payloads, segment_bytes)
    assert read(folder) == payloads


@pytest.mark.parametrize("kept", range(1, 16))
def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [b"first", b"last"])
    segment = only_segment(tmp_path)
    first_frame = 12 + len(b"first")
    os.truncate(segment, first_frame + kept)
    assert read(tmp_path) == [b"first"]
    assert segment.stat().st_size == first_frame
    assert "cut a torn tail" in caplog.text


def test_a_tail_of_zeros_is_cut(tmp_path: Path) -> None:
    write(tmp_path, [b"first"])
    with only_segment(tmp_path).open("ab") as stream:
        stream.write(bytes(4096))
    assert read(tmp_path) == [b"first"]


def test_after_a_cut_the_log_goes_on(tmp_path: Path) -> None:
    write(tmp_path, [b"first", b"last"])
    os.truncate(only_segment(tmp_path), 20)
    write(tmp_path, [b"next"])
    assert read(tmp_path) == [b"first", b"next"]


def test_damage_before_good_frames_is_refused_not_cut(tmp_path: Path) -> None:
    write(tmp_path, [b"first", b"last"])
    segment = only_segment(tmp_path)
    data = bytearray(segment.read_bytes())
    data[13] ^= 1
    segment.write_bytes(data)
    with pytest.raises(StorageError, match="frame at byte 0 is damaged, with good ones behind it"):
        SegmentFiles(tmp_path)
    assert segment.read_bytes() == bytes(data)


def test_damage_in_an_older_segment_is_named(tmp_path: Path) -> None:
    write(tmp_path, [b"first", b"last"], segment_bytes=1)
    older = min(tmp_path.glob("*.log"))
    older.write_bytes(older.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"000000000000\.log: the frame at byte 0 is damaged"):
        read(tmp_path)


@pytest.mark.parametrize("segment", ["000000000001.log", "000000000002.log"])
def test_a_segment_that_was_emptied_or_is_missing_is_named(tmp_path: Path, segment: str) -> None:
    write(tmp_path, [b"first", b"second", b"third", b"last"], segment_bytes=1)
    data = (tmp_path / segment).read_bytes()
    (tmp_path / segment).write_bytes(b"")
    for reader in (lambda: read(tmp_path), lambda: list(read_on(tmp_path, START))):
        with pytest.raises(StorageError, match=f"{segment} is empty, with others behind it"):
            reader()
    (tmp_path / segment).unlink()
    for reader in (lambda: read(tmp_path), lambda: list(read_on(tmp_path, START))):
        with pytest.raises(StorageError, match=r"what stood between .*\.log and .*\.log is missing; restore it"):
            reader()
    (tmp_path / segment).write_bytes(data)
    (tmp_path / f"a copy of {segment}").write_bytes(data)
    assert read(tmp_path) == [b"first", b"second", b"third", b"last"]


def test_damage_is_told_to_who_reads_on_and_again_to_who_opens_the_log_again(tmp_path: Path) -> None:
    write(tmp_path, [b"first", b"second", b"last"])
    segment = only_segment(tmp_path)
    data = bytearray(segment.read_bytes())
    data[12 + len(b"first") + 13] ^= 1  # in the second payload: its head is whole, as that of a frame being written
    segment.write_bytes(data)
    with pytest.raises(StorageError, match="frame at byte 17 is damaged"):
        list(read_on(tmp_path, START))
    for _ in range(2):
        with pytest.raises(StorageError, match="frame at byte 17 is damaged, with good ones behind it"):
            SegmentFiles(tmp_path)


def test_a_segment_that_could_not_be_begun_is_begun_by_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SegmentFiles(tmp_path, segment_bytes=1)
    log.append(b"first")
    real_open = os.open

    def too_many(path: Path | str, flags: int, *mode: int) -> int:
        if Path(path) == tmp_path:
            raise OSError(24, "Too many open files")
        return real_open(path, flags, *mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", too_many)
        with pytest.raises(StorageError, match="Too many open files"):
            log.append(b"lost")
    log.append(b"next")
    log.close()
    assert read(tmp_path) == [b"first", b"next"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    first = SegmentFiles(tmp_path)
    with pytest.raises(StorageError, match="in use by another process"):
        SegmentFiles(tmp_path)
    first.close()
    SegmentFiles(tmp_path).close()


def test_a_failed_write_adds_nothing_and_the_log_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentFiles(tmp_path)
    log.append(b"first")
    real_write = os.write

    def half_then_full(file: int, data: bytes) -> int:
        if len(data) > 6:
            return real_write(file, data[:6])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(StorageError, match="No space left"):
        log.append(b"lost!!")
    monkeypatch.undo()
    log.append(b"next")
    log.close()
    assert read(tmp_path) == [b"first", b"next"]


def test_a_write_that_fails_leaves_the_log_to_be_written_on_while_its_error_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = SegmentFiles(tmp_path)
    files.append(b"first")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="No space left") as held:
            files.append(b"lost")
    files.append(b"se", b"cond" * 1000)
    files.append(b"x" * (5 << 20))  # more than is kept of memory
    files.append(b"third")
    assert "No space left" in str(held.value)
    assert list(files.replay()) == [b"first", b"se" + b"cond" * 1000, b"x" * (5 << 20), b"third"]
    files.close()


@pytest.mark.parametrize("segment_bytes", [1 << 20, 60])
def test_what_is_written_while_a_copy_is_made_is_kept(tmp_path: Path, segment_bytes: int) -> None:
    log = SegmentFiles(tmp_path, segment_bytes)
    starts = [log.append(one) for one in (b"a\nb", b"a", b"b", b"a\na")]
    fresh = iter([b"a later", b"b later", b"c later"])
    blanks = 0
    for copy in log.blank_copies(lambda line, _: line.startswith(b"a"), may_hold=lambda text, _: b"a" in text):
        starts.append(log.append(next(fresh)))
        log.put(copy)
        starts.append(log.append(next(fresh)))
        blanks += len(copy.lines)
        if copy.segment == starts[3].segment:
            break
    assert blanks == 4
    expected = [b" \nb", b" ", b"b", b" \n ", b"a later", b"b later", b"c later"][: len(starts)]
    assert list(log.replay()) == expected
    log.close()
    assert read(tmp_path) == expected
    assert [Position(one.segment, one.byte) for one in starts] == starts_of(tmp_path)


def test_copies_begin_at_a_segment_and_end_where_the_log_did(tmp_path: Path) -> None:
    log = SegmentFiles(tmp_path, segment_bytes=1)
    for _ in range(4):
        log.append(b"a")
    assert [copy.segment for copy in log.blank_copies(lambda *_: True, since=2)] == [2, 3]
    assert [copy.lines for copy in log.blank_copies(lambda *_: False)] == []
    log.close()
    assert read(tmp_path) == [b"a"] * 4, "none was put"
    assert not list(tmp_path.glob("*.blanking"))
