"""Append-only segment files: frames with length and checksum, a torn tail cut, damage refused.

A frame is `magic, payload length, CRC-32 of the payload, payload`, little-endian. The next frame is
written only after the one before it is on the disk, so a crash can tear the last frame alone:
a bad frame with a good one behind it is damage, and is never cut away silently.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from asterism.core.errors import StorageError

MAGIC: Final = b"\xa5AL1"  # its first byte is in no UTF-8 text, so no payload of JSON holds it
_HEADER: Final = struct.Struct("<4sII")
_ROOM_BYTES: Final = 4 << 20  # kept for the next frame
_SUFFIX: Final = ".log"
_SEGMENTS: Final = "[0-9]" * 12 + _SUFFIX
_STAGED: Final = ".blanking"
_LOCK_FILE: Final = "lock"

logger = logging.getLogger(__name__)


class _Frame(NamedTuple):
    payload: bytes
    end: int


class Position(NamedTuple):
    """The start of a frame; positions of one log are ordered."""

    segment: int
    byte: int


class LinePlace(NamedTuple):
    """A line of a frame's payload; places of one log are ordered."""

    segment: int
    byte: int  # where the frame starts
    line: int


class BlankCopy(NamedTuple):
    """A segment's copy on the disk, as far as the segment was written, in which some lines are blank."""

    segment: int
    length: int  # of the segment then, in bytes
    staged: Path
    lines: list[tuple[bytes, LinePlace]]  # that are blank, as they were


START: Final = Position(0, 0)
EVERYTHING: Final = LinePlace(sys.maxsize, 0, 0)  # behind whatever may be written


def read_on(folder: Path, position: Position) -> Iterator[tuple[bytes, Position]]:
    """Payloads from a position on, each with the position behind it, as far as the log is written just now.

    Any process may read while one writes: a frame that is not whole yet is not given. Raises `StorageError` on damage.
    """
    paths = _segments(folder)
    for path in paths:
        number = int(path.stem)
        if number < position.segment:
            continue
        start = position.byte if number == position.segment else 0
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
        end = 0
        while frame := _read_frame(data, end):
            end = frame.end
            yield frame.payload, Position(number, start + end)
        if end < len(data):
            is_torn = data[end:].startswith(MAGIC) or MAGIC.startswith(data[end:])
            if path != paths[-1] or not is_torn or _holds_a_frame(data, end + 1):
                raise StorageError(f"{path}: the frame at byte {start + end} is damaged; restore the file from a copy")
            return


def has_more(folder: Path, position: Position) -> bool:
    """Whether something may be written behind a position that `read_on` gave: two looks at the folder, nothing read."""
    try:
        if os.stat(_segment(folder, position.segment)).st_size > position.byte:
            return True
    except FileNotFoundError:
        return True
    return os.path.exists(_segment(folder, position.segment + 1))


def _segments(folder: Path) -> list[Path]:
    """All segments in order; raises `StorageError` where one of them is missing, or empty with others behind it."""
    paths = sorted(folder.glob(_SEGMENTS))
    for path, after in pairwise(paths):
        if int(after.stem) != int(path.stem) + 1:
            raise StorageError(f"{folder}: what stood between {path.name} and {after.name} is missing; restore it")
        if not path.stat().st_size:  # the next one is begun when one is full
            raise StorageError(f"{path} is empty, with others behind it; restore the file from a copy")
    return paths


def _segment(folder: Path, number: int) -> str:
    return f"{folder}{os.sep}{number:012d}{_SUFFIX}"


class SegmentFiles:
    """One writer's log in a folder; one thread writes, and another one may make copies meanwhile."""

    def __init__(self, folder: Path, segment_bytes: int = 64 << 20) -> None:
        """Lock the folder, check every segment and cut a torn tail; raises `StorageError`."""
        self._folder = folder
        self._segment_bytes = segment_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
            try:
                self._file, self._end = self._open_last()
            except BaseException:
                os.close(self._lock)  # whoever tries again is to hear the reason again
                raise
        except OSError as error:
            raise StorageError(f"{folder}: the log cannot be opened ({error})") from error
        self._broken = False
        self._is_replaced = False  # and the folder, perhaps, not yet on the disk with that
        self._room = _Room()

    def append(self, *parts: bytes) -> Position:
        """Write one frame, of these parts of its payload, and wait until it is on the disk.

        Raises `StorageError`, then nothing was added.
        """
        if not any(parts):
            raise ValueError("a frame without payload could not be told from a hole in the file")
        try:
            self._repair()
            if self._end.byte >= self._segment_bytes:
                self._rotate()
            with self._room.framed(parts) as frame:
                self._broken = True
                _write_all(self._file, frame)
                length = len(frame)
            os.fdatasync(self._file)
        except OSError as error:
            raise StorageError(f"{self._folder}: the log cannot be written ({error}); make room on the disk") from error
        self._broken = False
        start = self._end
        self._end = Position(start.segment, start.byte + length)
        return start

    def blank(self, is_chosen: Callable[[bytes, LinePlace], bool]) -> int:
        """Overwrite the chosen lines of payloads by spaces; returns how many. All positions stay what they were.

        A segment is replaced by its new copy in one step: after a crash each is the old one or the new one. Raises
        `StorageError`; then some segments may have been replaced, and the same call does the rest.
        """
        count = 0
        for copy in self.blank_copies(is_chosen):
            self.put(copy)
            count += len(copy.lines)
        self.sync()
        return count

    def blank_copies(
        self,
        is_chosen: Callable[[bytes, LinePlace], bool],
        *,
        may_hold: Callable[[bytes, Position], bool] = lambda *_: True,
        since: int = 0,
    ) -> Iterator[BlankCopy]:
        """Copies, from a segment on, of those that hold chosen lines, each to be `put` before the next is made.

        What is appended meanwhile is in none. `may_hold` spares the lines of a frame that holds none of them. By one
        thread at a time, which need not be the one that writes; raises `StorageError`.
        """
        end = self._end
        with self._erasing():
            for path in _segments(self._folder):
                number = int(path.stem)
                if since <= number <= end.segment:
                    with path.open("rb") as file:
                        data = file.read(end.byte if number == end.segment else -1)
                    copy = _blank_copy(path, data, is_chosen, may_hold)
                    if copy is not None:
                        yield copy

    def put(self, copy: BlankCopy) -> None:
        """Let a copy, and what was appended behind it since, take the place of its segment; raises `StorageError`.

        After a crash it may be the old segment again, until `sync` or the next append.
        """
        with self._erasing():
            self._repair()
            path = Path(_segment(self._folder, copy.segment))
            file = os.open(copy.staged, os.O_RDWR | os.O_APPEND)
            try:
                with path.open("rb") as old:
                    old.seek(copy.length)
                    rest = old.read()
                if rest:
                    _write_all(file, rest)
                    os.fsync(file)
                self._is_replaced = True
                copy.staged.replace(path)
            except OSError:
                os.close(file)
                copy.staged.unlink(missing_ok=True)
                raise
            if copy.segment == self._end.segment:  # what is appended from now on must reach the copy
                file, self._file = self._file, file
            os.close(file)

    def sync(self) -> None:
        """Make sure that copies stay in their segments' places; raises `StorageError`."""
        with self._erasing():
            self._repair()

    def lines(self) -> Iterator[tuple[bytes, LinePlace]]:
        """All lines of all payloads and where they stand, oldest first; raises `StorageError` on damage."""
        for path in _segments(self._folder):
            start = 0
            for frame in _frames(path.read_bytes(), path):
                for number, line in enumerate(frame.payload.splitlines()):
                    yield line, LinePlace(int(path.stem), start, number)
                start = frame.end

    def replay(self) -> Iterator[bytes]:
        """All payloads, oldest first; raises `StorageError` on damage."""
        for path in _segments(self._folder):
            yield from (frame.payload for frame in _frames(path.read_bytes(), path))

    def close(self) -> None:
        """Let go of the file and the lock."""
        os.close(self._file)
        os.close(self._lock)

    def _take_lock(self) -> int:
        descriptor = os.open(self._folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StorageError(
                f"{self._folder} is in use by another process; stop it, or give this one its own --state"
            ) from None
        return descriptor

    def _open_last(self) -> tuple[int, Position]:
        for staged in self._folder.glob(f"*{_STAGED}"):
            staged.unlink()
        segments = _segments(self._folder)
        if not segments:
            return self._create(0), START
        last = segments[-1]
        data = last.read_bytes()
        end = _valid_end(data, last)
        file = os.open(last, os.O_RDWR)
        if end < len(data):
            logger.warning("%s: cut a torn tail of %d bytes, which nobody was promised", last, len(data) - end)
        _cut(file, end)
        return file, Position(int(last.stem), end)

    def _create(self, number: int) -> int:
        place = _segment(self._folder, number)
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self._sync_folder()
        except OSError:  # nothing is in it, and the next try is to make it anew
            os.close(file)
            os.unlink(place)
            raise
        return file

    @contextlib.contextmanager
    def _erasing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self._folder}: nothing can be erased ({error}); make room on the disk") from error

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _rotate(self) -> None:
        number = self._end.segment + 1
        fresh = self._create(number)
        os.close(self._file)
        self._file, self._end = fresh, Position(number, 0)

    def _repair(self) -> None:
        """Have the folder on the disk, and after a failed write cut the file back to what is known to be there."""
        if self._is_replaced:
            self._sync_folder()
            self._is_replaced = False
        if self._broken:
            _cut(self._file, self._end.byte)
            self._broken = False


class _Room:
    """Memory that frames are put together in, again and again.

    Fresh memory is mapped page by page while the interpreter is held: half a millisecond for a frame of one megabyte.
    """

    def __init__(self) -> None:
        self._file = BytesIO()

    @contextlib.contextmanager
    def framed(self, parts: Iterable[bytes]) -> Iterator[memoryview]:
        """A frame of these parts of its payload."""
        file, self._file = self._file, BytesIO()  # where writing fails, the error's traceback may hold on to its memory
        file.seek(_HEADER.size)
        file.writelines(parts)
        end = file.tell()
        with file.getbuffer() as whole, whole[:end] as frame:
            frame[: _HEADER.size] = _header(frame[_HEADER.size :])
            yield frame
        if end <= _ROOM_BYTES:
            self._file = file


def _header(payload: bytes | memoryview) -> bytes:
    return _HEADER.pack(MAGIC, len(payload), zlib.crc32(payload))


def _framed(payload: bytes) -> bytes:
    return _header(payload) + payload


def _blank_copy(
    path: Path,
    data: bytes,
    is_chosen: Callable[[bytes, LinePlace], bool],
    may_hold: Callable[[bytes, Position], bool],
) -> BlankCopy | None:
    """A segment's copy on the disk with the chosen lines blank; None where there are none."""
    number, start = int(path.stem), 0
    blanks: list[tuple[bytes, LinePlace]] = []
    frames: list[tuple[int, bytes]] = []
    for frame in _frames(data, path):
        if may_hold(frame.payload, Position(number, start)):
            lines = frame.payload.splitlines(keepends=True)
            places = (LinePlace(number, start, line) for line in range(len(lines)))
            chosen = [(line, place) for line, place in zip(lines, places, strict=True) if is_chosen(line, place)]
            for line, place in chosen:
                text = line.rstrip(b"\r\n")
                lines[place.line] = b" " * len(text) + line[len(text) :]
            if chosen:
                blanks += chosen
                frames.append((start, _framed(b"".join(lines))))
        start = frame.end
    return BlankCopy(number, len(data), _staged(path, data, frames), blanks) if blanks else None


def _staged(path: Path, data: bytes, frames: Iterable[tuple[int, bytes]]) -> Path:
    """Data with some frames replaced by others of their length, on the disk beside a segment."""
    staged = path.with_suffix(_STAGED)
    file = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        patched = bytearray(data)
        for start, frame in frames:
            patched[start : start + len(frame)] = frame
        _write_all(file, memoryview(patched))
        os.fsync(file)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    return staged


def _cut(file: int, length: int) -> None:
    os.ftruncate(file, length)
    os.lseek(file, length, os.SEEK_SET)
    os.fsync(file)


def _write_all(file: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _read_frame(data: bytes, start: int) -> _Frame | None:
    body = start + _HEADER.size
    if body > len(data):
        return None
    magic, length, checksum = _HEADER.unpack_from(data, start)
    payload = data[body : body + length]
    if magic != MAGIC or not length or len(payload) != length or zlib.crc32(payload) != checksum:
        return None
    return _Frame(payload, body + length)


def _valid_end(data: bytes, path: Path) -> int:
    """Where the last good frame ends; raises `StorageError` if a good one follows a bad one."""
    end = 0
    while frame := _read_frame(data, end):
        end = frame.end
    if _holds_a_frame(data, end + 1):
        raise StorageError(f"{path}: the frame at byte {end} is damaged, with good ones behind it; restore the file")
    return end


def _holds_a_frame(data: bytes, start: int) -> bool:
    """Whether a good frame begins anywhere from here on."""
    place = data.find(MAGIC, start)
    while place >= 0:
        if _read_frame(data, place):
            return True
        place = data.find(MAGIC, place + 1)
    return False


def _frames(data: bytes, path: Path) -> Iterator[_Frame]:
    start = 0
    while start < len(data):
        frame = _read_frame(data, start)
        if frame is None:
            raise StorageError(f"{path}: the frame at byte {start} is damaged; restore the file from a copy")
        yield frame
        start = frame.end
