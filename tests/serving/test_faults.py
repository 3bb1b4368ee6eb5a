"""Processes are killed, slowed and stopped while users are served."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from asterism.stores.event_log import LocalEventLog
from serving.running import ENGINE, RUN_SECONDS, STOP_SECONDS, Server, command, environment, ids, lives, wait_until
from serving.small_market import DELAY_FILE, HOLD_FILE, ITEM_IDS


def test_what_was_acknowledged_survives_kill_9_and_counts_once(bundle: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    running = Server(bundle, state)
    running.wait_ready()
    acknowledged: list[str] = []
    sent: list[str] = []
    enough = threading.Event()

    def item_of(worker: int, number: int) -> str:
        return ITEM_IDS[(worker * 7 + number) % len(ITEM_IDS)]

    def send_until_it_dies(worker: int) -> None:
        with httpx.Client(base_url=running.http.base_url, timeout=RUN_SECONDS) as client:
            for number in range(10_000):
                event_id = f"w{worker}-{number}"
                body = {"user_id": f"killed-{worker}", "item_id": item_of(worker, number), "event_id": event_id}
                sent.append(event_id)
                try:
                    answer = client.post("/api/v1/feedback", json=body)
                except httpx.TransportError:
                    return
                assert answer.json()["data"]["accepted"] == 1
                acknowledged.append(event_id)
                if len(acknowledged) > 150:
                    enough.set()

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(send_until_it_dies, worker) for worker in range(8)]
        assert enough.wait(RUN_SECONDS)
        running.stop(signal.SIGKILL)
    assert all(future.exception() is None for future in futures)

    with Server(bundle, state) as again:
        worker, number = map(int, acknowledged[-1].removeprefix("w").split("-"))
        profile = again.http.get(f"/api/v1/user/killed-{worker}/profile").json()["data"]
        seen = {item["item"]["item_id"] for item in profile["recent"]}
        assert item_of(worker, number) in seen
        assert not seen & set(ids(again.recommend(f"killed-{worker}", count=100)))
        repeated = again.feedback("killed-0", ITEM_IDS[0], event_id=acknowledged[0])
        assert (repeated["accepted"], repeated["duplicates"]) == (0, 1)
    log = LocalEventLog(state / "events")
    kept = Counter(event.event_id for event in log.replay())
    log.close()
    assert set(acknowledged) <= set(kept) <= set(sent)
    assert set(kept.values()) == {1}


def test_state_after_a_restart_is_the_state_before(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running:
        for number, item in enumerate(ITEM_IDS[::7]):
            running.feedback(f"u{number % 3}", item, "purchase" if number % 2 else "dislike")
        before = [running.recommend(f"u{user}", count=60) for user in range(3)]
        newcomer = ids(running.recommend("nobody", count=60))
    with Server(bundle, tmp_path / "state") as again:
        after = [again.recommend(f"u{user}", count=60) for user in range(3)]
        assert list(map(ids, after)) == list(map(ids, before))
        assert ids(again.recommend("nobody", count=60)) == newcomer


def test_kill_9_of_the_engine_degrades_and_then_heals(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running:
        assert running.recommend("u1")["source"] == "model"
        running.recommend("u3")
        first_pid = running.engine_pid()
        (tmp_path / HOLD_FILE).touch()
        os.kill(first_pid, signal.SIGKILL)
        again = running.recommend("u1")
        assert (again["source"], again["cached"]) == ("model", True), "nothing has changed, so nobody has to be asked"
        running.feedback("u3", "tents-00")
        sources = [running.recommend("u3")["source"]]
        sources.append(running.recommend("u2")["source"])
        assert sources == ["stale", "popular_segment"]
        assert running.http.get("/healthz").status_code == 200
        wait_until(lambda: running.http.get("/readyz").status_code == 503)
        assert running.http.get("/readyz").json()["code"] == 30002
        (tmp_path / HOLD_FILE).unlink()
        running.wait_ready()
        assert running.recommend("u1")["source"] == "model"
        assert running.engine_pid() != first_pid


def test_a_stale_slate_leaves_out_what_was_clicked_since(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state", "--deadline-ms", "1000") as running:
        wait_until(lambda: running.recommend("u1", count=5)["source"] == "model")
        first, *rest = ids(running.recommend("u1", count=5))
        (tmp_path / DELAY_FILE).write_text("60")
        running.feedback("u1", first)
        started = time.monotonic()
        answer = running.recommend("u1", count=4)
        assert time.monotonic() - started < 20.0
        assert (answer["source"], ids(answer)) == ("stale", rest)
        assert running.recommend("u2")["source"] == "popular_segment"
        assert running.recommend("nobody")["source"] == "popular"


def test_a_late_answer_is_kept_for_the_next_request(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state", "--deadline-ms", "2000") as running:
        (tmp_path / DELAY_FILE).write_text("600")
        assert running.recommend("u1")["source"] == "popular_segment"
        (tmp_path / DELAY_FILE).unlink()
        wait_until(lambda: running.engine_figures()["answered"] == 1)
        late = running.recommend("u1")
        assert (late["source"], late["cached"]) == ("model", True)


def test_a_full_disk_refuses_feedback_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    event = {"user_id": "full", "item_id": "lamps-00"}
    with Server(bundle, tmp_path / "state") as running:
        many = {"events": [{**event, "event_id": f"before-{number}"} for number in range(1000)]}
        assert running.http.post("/api/v1/feedback", json=many).json()["data"]["accepted"] == 1000
        (segment,) = (tmp_path / "state" / "events").glob("*.log")
        full = (segment.stat().st_size + 10, resource.RLIM_INFINITY)
        before = resource.prlimit(running.pid_of("gateway"), resource.RLIMIT_FSIZE, full)
        refused = running.http.post("/api/v1/feedback", json={**event, "event_id": "during"})
        assert (refused.status_code, refused.json()["code"]) == (503, 10003)
        assert running.recommend("u1")["source"] == "model"
        resource.prlimit(running.pid_of("gateway"), resource.RLIMIT_FSIZE, before)
        assert running.feedback("full", "lamps-00", event_id="during")["accepted"] == 1
    log = LocalEventLog(tmp_path / "state" / "events")
    assert [one.event_id for one in log.replay()] == [f"before-{number}" for number in range(1000)] + ["during"]
    log.close()


def test_requests_that_wait_are_answered_in_one_batch(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running:
        (tmp_path / DELAY_FILE).write_text("600")
        with ThreadPoolExecutor(12) as pool:
            sources = pool.map(lambda user: running.recommend(f"u{user}")["source"], range(12))
            wait_until(lambda: (now := running.engine_figures())["waiting"] + now["under_way"] == 12)
            (tmp_path / DELAY_FILE).unlink()
        assert set(sources) == {"model"}
        wait_until(lambda: running.engine_figures()["answered"] == 12)
        assert running.engine_figures()["batches"] <= 2, "who came while the first one was under way"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_finish_and_the_status_is_0(
    bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with Server(bundle, tmp_path / "state") as running:
        (tmp_path / DELAY_FILE).write_text("600")
        engine = running.engine_pid()
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(running.recommend, "u1")
            wait_until(lambda: running.engine_figures()["under_way"] == 1)
            running.process.send_signal(number)
            running.wait_deaf()
            (tmp_path / DELAY_FILE).unlink()
            assert under_way.result()["source"] == "model"
        assert running.process.wait(STOP_SECONDS) == 0
        wait_until(lambda: not lives(engine))


def test_ctrl_c_before_the_model_is_loaded_ends_quietly(bundle: Path, tmp_path: Path) -> None:
    arguments = ("--bundle", str(bundle), "--state", str(tmp_path / "state"), "--port", "0", "--engine", ENGINE)
    started = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
        process_group=0,
    )
    assert started.stdout is not None
    started.stdout.readline()
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, said = started.communicate(timeout=STOP_SECONDS)
    assert started.returncode == 0
    assert "KeyboardInterrupt" not in said
    assert "ERROR" not in said


def test_a_supervisors_signal_to_every_process_lets_requests_finish(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running:
        (tmp_path / DELAY_FILE).write_text("600")
        engine = running.engine_pid()
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(running.recommend, "u1")
            wait_until(lambda: running.engine_figures()["under_way"] == 1)
            os.kill(engine, signal.SIGTERM)
            running.process.send_signal(signal.SIGTERM)
            running.wait_deaf()
            (tmp_path / DELAY_FILE).unlink()
            assert under_way.result()["source"] == "model"
        assert running.process.wait(STOP_SECONDS) == 0


def test_the_engine_ends_with_a_killed_server(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running:
        engine = running.engine_pid()
        running.process.kill()
        wait_until(lambda: not lives(engine))


def run_to_its_end(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), timeout=RUN_SECONDS)


def test_a_taken_port_is_a_sentence(bundle: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ended = run_to_its_end("--bundle", str(bundle), "--port", str(port))
    assert ended.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broken_bundle_is_a_sentence(bundle: Path, tmp_path: Path) -> None:
    (bundle / "items.parquet").write_bytes(b"cut")
    for path, reason in ((bundle, "the copy was cut short"), (tmp_path / "none", "there is no such folder")):
        ended = run_to_its_end("--bundle", str(path), "--port", "0")
        assert ended.returncode == 2
        assert reason in ended.stderr
        assert "Traceback" not in ended.stderr


def test_two_services_do_not_share_a_state(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state"):
        ended = run_to_its_end(
            "--bundle", str(bundle), "--state", str(tmp_path / "state"), "--port", "0", "--engine", ENGINE
        )
    assert ended.returncode == 2
    assert "in use by another process" in ended.stderr


def test_an_engine_that_can_never_load_ends_the_service_with_its_sentence(bundle: Path, tmp_path: Path) -> None:
    typo = "serving.small_market:no_such_function"
    ended = run_to_its_end("--bundle", str(bundle), "--state", str(tmp_path / "state"), "--port", "0", "--engine", typo)
    assert ended.returncode == 2
    assert f"ConfigError: the engine '{typo}' cannot be imported" in ended.stderr
    assert "name it as module:function" in ended.stderr
    assert "Traceback" not in ended.stderr
