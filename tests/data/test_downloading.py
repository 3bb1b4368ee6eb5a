"""Downloads from a real server on this machine: whole, interrupted, refused, hostile."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from asterism.core.errors import ConfigError, DataError
from asterism.data.downloading import DownloadEntry, DownloadFile, download, fetch, read_catalogue, unpack

CONTENT = bytes(range(256)) * 4096  # 1 MiB
CATALOGUE = Path(__file__).parents[2] / "configs" / "datasets"


class Handler(BaseHTTPRequestHandler):
    """Serves one body; the path chooses how well."""

    body = CONTENT
    seen: list[str | None]

    def do_GET(self) -> None:
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.seen.append(asked)
        start = int(re.sub(r"\D", "", asked)) if asked and not self.path.startswith("/plain") else 0
        if start >= len(self.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.body) - start))
        self.end_headers()
        stop = len(self.body) // 2 if self.path.startswith("/cut") and not start else len(self.body)
        self.wfile.write(self.body[start:stop])

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def handler() -> type[Handler]:
    return type("OneHandler", (Handler,), {"seen": []})


@pytest.fixture
def url(handler: type[Handler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_a_whole_file(url: str, tmp_path: Path) -> None:
    file = DownloadFile(url=f"{url}/a.bin", sha256=SHA256, md5=hashlib.md5(CONTENT).hexdigest())
    one = fetch(file, tmp_path)
    assert one.path.read_bytes() == CONTENT
    assert (one.sha256, one.verified) == (SHA256, True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_without_a_checksum_it_is_unverified(url: str, tmp_path: Path) -> None:
    one = fetch(DownloadFile(url=f"{url}/a.bin"), tmp_path)
    assert (one.sha256, one.verified) == (SHA256, False)


def test_an_interrupted_download_goes_on(url: str, tmp_path: Path, handler: type[Handler]) -> None:
    file = DownloadFile(url=f"{url}/cut.bin", sha256=SHA256)
    with pytest.raises(DataError, match=r"broke off .*; run the command again, it goes on after the 524288 bytes"):
        fetch(file, tmp_path)
    assert (tmp_path / "cut.bin.part").read_bytes() == CONTENT[: len(CONTENT) // 2]
    assert not (tmp_path / "cut.bin").exists()
    assert fetch(file, tmp_path).path.read_bytes() == CONTENT
    assert handler.seen == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_server_without_ranges_starts_anew(url: str, tmp_path: Path, handler: type[Handler]) -> None:
    (tmp_path / "plain.bin.part").write_bytes(b"half of something")
    assert fetch(DownloadFile(url=f"{url}/plain.bin", sha256=SHA256), tmp_path).path.read_bytes() == CONTENT
    assert handler.seen == ["bytes=17-"]


def test_a_part_that_is_already_whole(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert fetch(DownloadFile(url=f"{url}/a.bin", sha256=SHA256), tmp_path).path.read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    with pytest.raises(DataError, match="does not fit the file"):
        fetch(DownloadFile(url=f"{url}/a.bin"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_a_wrong_checksum_is_refused(url: str, tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(DataError, match="the catalogue says 0000"):
        fetch(DownloadFile(url=f"{url}/a.bin", **wrong), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_checked_and_not_fetched(url: str, tmp_path: Path, handler: type[Handler]) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert fetch(DownloadFile(url=f"{url}/a.bin", sha256=SHA256), tmp_path).verified
    assert handler.seen == []


def test_a_missing_file_and_a_missing_server(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the server answered 404"):
        fetch(DownloadFile(url=f"{url}/missing.bin"), tmp_path)
    with pytest.raises(DataError, match="broke off"):
        fetch(DownloadFile(url="http://127.0.0.1:1/a.bin"), tmp_path)


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name in names:
            content.writestr(name, name)
    return buffer.getvalue()


def test_an_archive_is_unpacked(url: str, tmp_path: Path, handler: type[Handler]) -> None:
    handler.body = archive("ml/ratings.csv", "ml/movies.csv")
    entry = DownloadEntry(
        name="x", title="X", homepage="h", terms="t", format="movielens", folder="ml",
        files=(DownloadFile(url=f"{url}/x.zip"),),
    )  # fmt: skip
    download(entry, tmp_path / "out")
    assert (tmp_path / "out" / "ml" / "ratings.csv").read_text() == "ml/ratings.csv"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil"])
def test_an_archive_must_not_leave_its_folder(tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.zip"
    file.write_bytes(archive("good", name))
    with pytest.raises(DataError, match="leaves the folder"):
        unpack(file, tmp_path / "out")
    assert [one.name for one in tmp_path.rglob("*")] == ["x.zip"]


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no")
    with pytest.raises(DataError, match="not a whole zip archive"):
        unpack(tmp_path / "x.zip", tmp_path)


def test_the_catalogue() -> None:
    entries = read_catalogue(CATALOGUE)
    assert len(entries) == len(list(CATALOGUE.glob("*.toml"))) >= 2
    for name, entry in entries.items():
        assert (CATALOGUE / f"{name}.toml").is_file()
        assert all(file.url.startswith("https://") for file in entry.files)


def test_a_broken_catalogue_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('name = "x"\nurl = "y"\n')
    with pytest.raises(ConfigError, match=r"x\.toml does not describe a data set"):
        read_catalogue(tmp_path)
