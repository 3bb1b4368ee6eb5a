"""One conformance suite for every store of blobs, and bundles as trees of them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from asterism.core.bundle import MANIFEST, Bundle, BundleWriter
from asterism.core.errors import (
    BundleError,
    ConfigError,
    DataError,
    StorageError,
    StoreUnavailableError,
    UnknownIdError,
)
from asterism.stores.blobs import Blobs, LocalBlobs
from asterism.stores.bundle_trees import choose_version, current_version, pull_bundle, push_bundle, versions
from asterism.stores.reaching import Tries
from asterism.stores.s3_blobs import S3Blobs


@pytest.fixture(params=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Blobs]:
    if request.param == "local":
        yield LocalBlobs(tmp_path / "blobs")
        return
    endpoint = request.getfixturevalue("s3_endpoint")
    store = S3Blobs(f"s3://asterism/{prefix}?endpoint={endpoint}", timeout_seconds=60.0)
    yield store
    store.close()


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)), b"\r\n\x00", b"giant" * 3_000_000], ids=len)
def test_what_was_put_in_comes_out(blobs: Blobs, tmp_path: Path, data: bytes) -> None:
    blobs.put("a/b.bin", data)
    assert blobs.get("a/b.bin").data == data
    (tmp_path / "in").write_bytes(data)
    blobs.upload("a/b/c é⭐'%20 +&?.bin", tmp_path / "in")
    blobs.download("a/b/c é⭐'%20 +&?.bin", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    blobs.put("a/b.bin", b"second")
    assert blobs.get("a/b.bin").data == b"second"


def test_a_blob_that_is_not_there_is_named(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put("folder/x", b"")
    for name in ("nobody", "folder", "folder/x/y"):
        with pytest.raises(UnknownIdError, match=f"there is no blob '{name}' in"):
            blobs.get(name)
        with pytest.raises(UnknownIdError, match=f"there is no blob '{name}' in"):
            blobs.download(name, tmp_path / "out")
        assert not blobs.replace(name, b"y", '"tag"')
    blobs.delete("nobody")


def test_names_are_listed_in_order_by_what_they_begin_with(blobs: Blobs) -> None:
    names = [f"many/{number:04}" for number in range(40)] + ["manya", "a/b", "a.b", "a-b"]
    for name in names:
        blobs.put(name, b"")
    assert list(blobs.names()) == sorted(names)
    assert list(blobs.names("many/000")) == [f"many/000{number}" for number in range(10)]
    assert list(blobs.names("nothing")) == []
    blobs.delete("a/b")
    assert list(blobs.names("a")) == ["a-b", "a.b"]


def test_of_many_who_create_one_wins(blobs: Blobs) -> None:
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda number: blobs.create("leader", str(number).encode()), range(24)))
    assert won.count(True) == 1
    assert blobs.get("leader").data == str(won.index(True)).encode()


def test_only_what_was_seen_is_replaced(blobs: Blobs) -> None:
    blobs.put("counter", b"0")
    first = blobs.get("counter")
    assert blobs.replace("counter", b"1", first.tag)
    assert not blobs.replace("counter", b"2", first.tag)
    assert blobs.get("counter").data == b"1"


def test_counting_by_many_clients_loses_no_step(blobs: Blobs) -> None:
    blobs.put("counter", b"0")

    def count(_: int) -> None:
        while True:
            seen = blobs.get("counter")
            if blobs.replace("counter", str(int(seen.data) + 1).encode(), seen.tag):
                return

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(count, range(12)))
    assert blobs.get("counter").data == b"12"


@pytest.mark.parametrize(
    "name",
    ["", "/", "/etc/passwd", "a//b", "../x", "a/../../x", "a/.", "a\x00b", "a\nb", "a\\b", "x" * 300, "a/" * 500],
)
def test_a_name_that_leads_elsewhere_is_refused(blobs: Blobs, name: str) -> None:
    with pytest.raises(DataError, match="cannot name a blob"):
        blobs.put(name, b"")
    with pytest.raises(DataError, match="cannot name a blob"):
        blobs.get(name)


def bundle(path: Path, text: str = "weights") -> Bundle:
    writer = BundleWriter(path)
    writer.part("model.json").write_text(text)
    writer.part("items.bin").write_bytes(bytes(1000))
    return writer.commit({"items": 1})


def test_a_bundle_travels_whole(blobs: Blobs, tmp_path: Path) -> None:
    first, second = bundle(tmp_path / "one"), bundle(tmp_path / "two", "better")
    for one in (first, second, first):
        assert push_bundle(blobs, one, "shop") == one.version
    assert sorted(versions(blobs, "shop")) == sorted([first.version, second.version])
    assert pull_bundle(blobs, "shop", first.version, tmp_path / "here").version == first.version
    pulled = pull_bundle(blobs, "shop", second.version, tmp_path / "here")
    assert (pulled.manifest, pulled.part("model.json").read_text()) == (second.manifest, "better")
    assert sorted(one.name for one in tmp_path.iterdir() if "here" in one.name) == ["here"]


def test_a_bundle_whose_manifest_is_not_there_yet_is_none(blobs: Blobs, tmp_path: Path) -> None:
    pushed = bundle(tmp_path / "one")
    push_bundle(blobs, pushed, "shop")
    blobs.delete(f"shop/{pushed.version}/{MANIFEST}")
    assert versions(blobs, "shop") == []
    with pytest.raises(BundleError, match=r"no finished bundle 'shop' of version .*; there are none"):
        pull_bundle(blobs, "shop", pushed.version, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_part_that_was_changed_underway_is_not_put_in_place(blobs: Blobs, tmp_path: Path) -> None:
    pushed = bundle(tmp_path / "one")
    push_bundle(blobs, pushed, "shop")
    pull_bundle(blobs, "shop", pushed.version, tmp_path / "here")
    blobs.put(f"shop/{pushed.version}/model.json", b"poisons")
    with pytest.raises(BundleError, match="was changed after the bundle was written"):
        pull_bundle(blobs, "shop", pushed.version, tmp_path / "here")
    assert Bundle.open(tmp_path / "here").part("model.json").read_text() == "weights"


def test_the_served_version_is_changed_by_one_at_a_time(blobs: Blobs, tmp_path: Path) -> None:
    one, two = (push_bundle(blobs, bundle(tmp_path / text, text), "shop") for text in ("one", "two"))
    assert current_version(blobs, "shop") is None
    assert not choose_version(blobs, "shop", one, instead_of=two)
    assert choose_version(blobs, "shop", one, instead_of=None)
    assert not choose_version(blobs, "shop", two, instead_of=None)
    assert choose_version(blobs, "shop", two, instead_of=one)
    assert not choose_version(blobs, "shop", two, instead_of=one)
    assert current_version(blobs, "shop") == two
    with pytest.raises(BundleError, match="push it first"):
        choose_version(blobs, "shop", "unknown", instead_of=two)


def test_an_s3_that_is_dead_or_deaf_is_a_sentence_in_time(s3_endpoint: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        store = S3Blobs(f"s3://asterism?endpoint={endpoint}", timeout_seconds=0.3, tries=Tries(2))
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=rf"S3 at s3://asterism \({endpoint}\) cannot be reached"):
            store.put("a", b"")
        assert time.monotonic() - began < 15
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached .*start it"):
        store.get("a")
    store.close()


@contextlib.contextmanager
def busy_s3(failures: int) -> Iterator[str]:
    """The endpoint of an S3 that is busy or breaks off so many times, then takes and gives."""

    class Busy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # who writes waits for "100 Continue"
        left = failures

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            Busy.left -= 1
            busy = Busy.left >= 0
            self._answer(503 if busy else 200, b"<Error><Code>SlowDown</Code></Error>" if busy else b"", 0)

        def do_GET(self) -> None:
            Busy.left -= 1
            self._answer(200, b"checked", 3 if Busy.left >= 0 else 0)

        def _answer(self, status: int, body: bytes, cut: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"tag"')
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body[: len(body) - cut])

        def do_HEAD(self) -> None:
            self._answer(200, b"checked", 7)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.usefixtures("s3_endpoint")  # for its credentials
def test_an_s3_that_is_busy_or_breaks_off_is_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"checked")
    calls: list[Callable[[S3Blobs], object]] = [
        lambda store: store.upload("a", file),
        lambda store: store.get("a"),
        lambda store: store.download("a", tmp_path / "again"),
    ]
    for call in calls:
        with busy_s3(2) as endpoint:
            store = S3Blobs(f"s3://asterism?endpoint={endpoint}", timeout_seconds=30.0)
            call(store)
            store.close()
        with busy_s3(1_000) as endpoint:
            store = S3Blobs(f"s3://asterism?endpoint={endpoint}", timeout_seconds=30.0)
            with pytest.raises(StoreUnavailableError, match="S3 at s3://asterism"):
                call(store)
            store.close()


def test_a_bucket_that_is_not_there_is_told(s3_endpoint: str, tmp_path: Path) -> None:
    store = S3Blobs(f"s3://elsewhere?endpoint={s3_endpoint}")
    (tmp_path / "file").write_text("")
    for write in (lambda: store.put("a", b""), lambda: store.upload("a", tmp_path / "file")):
        with pytest.raises(StorageError, match=r"refused \(.*NoSuchBucket"):
            write()
    store.close()
    with pytest.raises(ConfigError, match="names no bucket"):
        S3Blobs("s3://")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        LocalBlobs(tmp_path / "file" / "blobs")
