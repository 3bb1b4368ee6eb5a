"""Who asks to be forgotten is forgotten by every process and every file, also after a kill; what comes later is new."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path
from urllib.parse import quote

from asterism.stores.users import digest_of
from serving.running import Server, ids, wait_until
from serving.small_market import FORGOTTEN_FILE, histories_table, write_bundle

ADA = "ada Ünder/the ☆ 7e1"


def files_with(folder: Path, user_id: str) -> list[str]:
    """The files below a folder that hold a user's id as text or as JSON escapes it, without the worker's own engine."""
    names = [user_id.encode(), b"".join(b"\\u%04x" % ord(one) if ord(one) > 126 else one.encode() for one in user_id)]
    found = []
    parts = [one for one in folder.iterdir() if one.name != "history"]  # where folders come and go as one looks
    for path in sorted(path for one in parts for path in (one, *one.rglob("*"))):
        inside = path.relative_to(folder)
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):  # replaced or removed meanwhile
                content = path.read_bytes()
                if any(one in content for one in names):
                    found.append(str(inside))
    return found


def behaviours(state: Path, user_id: str) -> int:
    connection = sqlite3.connect(f"file:{state / 'catalogue.db'}?mode=ro", uri=True)
    (count,) = connection.execute("SELECT count(*) FROM behaviours WHERE visitor = ?", (f"u:{user_id}",)).fetchone()
    connection.close()
    return int(count)


def forget(server: Server, user_id: str) -> dict[str, object]:
    answer = server.http.delete(f"/api/v1/user/{quote(user_id, safe='')}").json()
    assert answer["code"] == 0, answer
    return dict(answer["data"])


def test_after_forget_me_and_a_restart_no_byte_is_left_and_a_later_event_starts_anew(tmp_path: Path) -> None:
    bundle, state = write_bundle(tmp_path / "bundle").path, tmp_path / "state"
    with Server(bundle, state) as server:
        for number in range(4):
            server.feedback(ADA, f"lamps-0{number}", event_id=f"{ADA}/{number}")
        server.feedback("bob", "mugs-03")
        for scene in ("home", "page"):
            server.recommend(ADA, scene=scene, session_id="s1")
        wait_until(lambda: behaviours(state, ADA) == 4)
        wait_until(lambda: {Path(one).parts[0] for one in files_with(state, ADA)} >= {"events", "exposures"})
        assert forget(server, ADA) == {"profile": True, "events": 4, "exposures": 2}
        wait_until((tmp_path / FORGOTTEN_FILE).is_file)  # the engine was told
        assert set((tmp_path / FORGOTTEN_FILE).read_text(encoding="utf-8").splitlines()) == {digest_of(ADA)}
        assert server.http.get(f"/api/v1/user/{quote(ADA, safe='')}/profile").json()["code"] == 20003
        assert server.recommend("x" * 9)["source"] == server.recommend(ADA)["source"] == "popular"
        assert forget(server, ADA) == {"profile": False, "events": 0, "exposures": 1}
        wait_until(lambda: files_with(state, ADA) == [])
    told = (tmp_path / FORGOTTEN_FILE).read_bytes()
    with Server(bundle, state) as server:
        assert files_with(state, ADA) == []
        assert server.http.get(f"/api/v1/user/{quote(ADA, safe='')}/profile").json()["code"] == 20003
        profile = server.http.get("/api/v1/user/bob/profile").json()["data"]
        assert [one["item"]["item_id"] for one in profile["recent"]] == ["mugs-03"]
        assert server.feedback(ADA, "tents-05", event_id=f"{ADA}/1")["accepted"] == 1
        profile = server.http.get(f"/api/v1/user/{quote(ADA, safe='')}/profile").json()["data"]
        assert [one["item"]["item_id"] for one in profile["recent"]] == ["tents-05"]
        wait_until(lambda: behaviours(state, ADA) == 1)
    assert (tmp_path / FORGOTTEN_FILE).read_bytes() == told, "fresh engines hold nothing, and need not be told"


def test_the_past_that_the_bundle_holds_does_not_come_back(tmp_path: Path) -> None:
    bundle, state = write_bundle(tmp_path / "bundle").path, tmp_path / "state"
    with Server(bundle, state) as server:
        assert server.recommend("u1")["source"] == "model"
        forget(server, "u1")
    with Server(bundle, state) as server:
        assert server.recommend("u1")["source"] == "popular"
        assert server.recommend("u2")["source"] == "model"
        server.feedback("u1", "tents-05")
        again = server.recommend("u1", count=60)
        past = {row["item_id"] for row in histories_table().to_pylist() if row["user_id"] == "u1"}
        assert past <= set(ids(again)), "nobody knows any more what was seen"


def test_a_kill_right_after_the_answer_undoes_nothing(tmp_path: Path) -> None:
    bundle, state = write_bundle(tmp_path / "bundle").path, tmp_path / "state"
    with Server(bundle, state) as server:
        server.feedback(ADA, "lamps-00")
        gateway = int((state / "run" / "gateway.pid").read_text())
        forget(server, ADA)
        os.kill(gateway, signal.SIGKILL)
        pid_file = state / "run" / "gateway.pid"
        wait_until(lambda: pid_file.exists() and pid_file.read_text() not in {"", str(gateway)})
        wait_until(lambda: files_with(state, ADA) == [])
    with Server(bundle, state) as server:
        assert server.http.get(f"/api/v1/user/{quote(ADA, safe='')}/profile").json()["code"] == 20003
