"""Gateway, engine and worker as real processes that are killed, stopped and looked for."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from asterism.serving.grpc.engine_link import EngineLink
from asterism.serving.grpc.remote_engine import RemoteEngine
from serving.engine.stepping import asked
from serving.running import ENGINE, RUN_SECONDS, STOP_SECONDS, Server, command, environment, ids, lives, wait_until
from serving.small_market import DELAY_FILE, HOLD_FILE, ITEM_IDS


def killed(server: Server, name: str) -> int:
    """Kill a process, and wait until another one is in its place; its number."""
    before = server.pid_of(name)
    os.kill(before, signal.SIGKILL)

    def is_replaced() -> bool:
        try:
            return server.pid_of(name) != before
        except (FileNotFoundError, ValueError):
            return False

    wait_until(is_replaced)
    return server.pid_of(name)


def test_each_process_is_replaced_when_it_is_killed_and_none_outlives_the_supervisor(
    bundle: Path, tmp_path: Path
) -> None:
    with Server(bundle, tmp_path / "state") as running:
        wait_until((running.run_folder / "worker.pid").exists)
        for name in ("engine.sock", "gateway.sock"):
            assert (running.run_folder / name).stat().st_mode & 0o777 == 0o600
        assert running.recommend("u1")["source"] == "model"

        (tmp_path / HOLD_FILE).touch()
        killed(running, "engine")
        assert running.recommend("u2")["source"] == "popular_segment", "at once, and not after a deadline"
        wait_until(lambda: running.http.get("/readyz").status_code == 503)
        (tmp_path / HOLD_FILE).unlink()
        running.wait_ready()
        wait_until(lambda: running.recommend("u2", exclude=["lamps-00"])["source"] == "model")

        running.feedback("u3", "tents-00", event_id="before")
        killed(running, "gateway")
        with httpx.Client(base_url=running.http.base_url, timeout=RUN_SECONDS) as patient:
            assert patient.get("/healthz").status_code == 200, "the port stays: who connects meanwhile is answered"
        assert running.feedback("u3", "tents-00", event_id="before")["duplicates"] == 1
        assert "tents-00" not in ids(running.recommend("u3", count=60))

        worker = killed(running, "worker")
        pids = [running.pid_of(name) for name in ("gateway", "engine")] + [worker, running.engine_pid()]
        assert all(map(lives, pids))
        running.process.kill()
        wait_until(lambda: not any(map(lives, pids)))


@dataclass
class Load:
    """Clients that ask on and on, each a moment after its last answer, until nobody listens any more."""

    host: str
    port: int
    keep_alive: bool
    answered: list[int] = field(default_factory=list)
    refused: int = 0

    def ask(self, user: int) -> None:
        """An error other than a refused connection is a request that was cut.

        But a gateway that ends closes a connection on which nothing came for 0.3 s: a client that this machine held up
        for nearly so long may find it closed, once.
        """
        headers = {"content-type": "application/json"} | ({} if self.keep_alive else {"connection": "close"})
        connection = http.client.HTTPConnection(self.host, self.port, timeout=RUN_SECONDS)
        before, may_be_closed = time.monotonic(), self.keep_alive
        for number in range(100_000):
            body = json.dumps({"user_id": f"u{user}", "exclude": [ITEM_IDS[number % 60]]})
            began, sent = time.monotonic(), None
            try:
                connection.request("POST", "/api/v1/recommend", body, headers)
                sent = time.monotonic()
                answer = connection.getresponse()
            except ConnectionRefusedError:
                self.refused += 1
                return
            except ConnectionError:
                if not may_be_closed or (sent or time.monotonic()) - before < 0.25:
                    raise
                may_be_closed = False
                connection.close()
                continue
            before = began
            assert json.loads(answer.read())["data"]["source"] == "model"
            self.answered.append(answer.status)
            time.sleep(0.005)


@pytest.fixture
def hears_all_signals() -> Iterator[None]:
    """What is started here inherits no ignored signal, as from `nohup` or from a shell's `&`: that wish is honoured."""
    before = [(one, signal.getsignal(one)) for one in (signal.SIGHUP, signal.SIGINT)]
    for one, handler in before:
        if handler is signal.SIG_IGN:
            signal.signal(one, signal.SIG_DFL)
    yield
    for one, handler in before:
        signal.signal(one, handler)


@pytest.mark.usefixtures("hears_all_signals")
@pytest.mark.parametrize(
    ("keep_alive", "number"), [(True, signal.SIGTERM), (False, signal.SIGTERM), (True, signal.SIGHUP)]
)
def test_a_stop_under_load_cuts_no_request(
    bundle: Path, tmp_path: Path, keep_alive: bool, number: signal.Signals
) -> None:
    with Server(bundle, tmp_path / "state") as running:
        wait_until((running.run_folder / "worker.pid").exists)
        pids = [running.pid_of(name) for name in ("gateway", "engine", "worker")]
        url = running.http.base_url
        load = Load(url.host, url.port or 80, keep_alive)
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(load.ask, user) for user in range(4)]
            wait_until(lambda: len(load.answered) > 40)
            running.process.send_signal(number)
            if number == signal.SIGHUP:  # the shell sends one, the kernel another as the shell ends
                time.sleep(0.02)
                running.process.send_signal(number)
            for one in asking:
                one.result()  # an error of any of them is an error of the test
        assert load.refused == 4
        assert set(load.answered) == {200}
        assert running.process.wait(STOP_SECONDS) == 0
        assert not any(map(lives, pids))
        assert [one.name for one in running.run_folder.iterdir()] == ["lock"]


def test_a_stop_that_signals_every_process_cuts_no_request(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running, ThreadPoolExecutor(4) as pool:
        wait_until((running.run_folder / "worker.pid").exists)
        pids = [running.process.pid, *(running.pid_of(name) for name in ("gateway", "engine", "worker"))]
        (tmp_path / DELAY_FILE).write_text("600")
        asking = [pool.submit(running.recommend, f"u{user}", exclude=["lamps-00"]) for user in range(4)]
        wait_until(lambda: running.engine_figures()["waiting"] + running.engine_figures()["under_way"] == 4)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        running.wait_deaf()
        os.kill(pids[1], signal.SIGTERM)  # as the supervisor does, which tells each a second time
        time.sleep(1)  # in which a gateway that minds that would end
        (tmp_path / DELAY_FILE).unlink()
        assert [len(one.result()["items"]) for one in asking] == [10] * 4
        assert running.process.wait(STOP_SECONDS) == 0
        assert not any(map(lives, pids))


def test_a_state_lies_in_any_folder_but_one_that_a_store_would_take_apart(bundle: Path, tmp_path: Path) -> None:
    state = tmp_path / "50%20 of #1 für Ян"
    with Server(bundle, state) as running:
        assert running.recommend("u1")["source"] == "model"
        assert {one.name for one in state.iterdir()} >= {"catalogue.db", "events", "exposures", "run"}
    assert {one.name for one in tmp_path.iterdir()} == {"bundle", "server.log", state.name}, "and nowhere else"
    refused = subprocess.run(
        command(*places(bundle, tmp_path / "really?"), "--port", "0"),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=RUN_SECONDS,
    )
    assert (refused.returncode, "really? cannot hold a state" in refused.stderr) == (2, True)
    assert not (tmp_path / "really").exists()


@pytest.mark.usefixtures("hears_all_signals")
def test_who_is_told_to_stop_before_it_has_begun_ends(bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "deployment.toml"
    os.mkfifo(config)
    for process in ((), ("gateway",), ("engine",), ("worker",)):
        started = subprocess.Popen(
            command(*process, *places(bundle, tmp_path / "state"), "--config", str(config)), env=environment()
        )
        with config.open("w"):  # it reads, and waits for the rest
            started.send_signal(signal.SIGINT)
            assert started.wait(STOP_SECONDS) == -signal.SIGINT, "by the signal itself: an exception may get lost"


def places(bundle: Path, state: Path) -> tuple[str, ...]:
    return ("--bundle", str(bundle), "--state", str(state))


class EngineProcess:
    """`asterism serve engine`, started alone."""

    def __init__(self, bundle: Path, state: Path, name: str) -> None:
        self.address = f"unix:{state}/{name}.sock"
        self.process = subprocess.Popen(
            command("engine", *places(bundle, state), "--listen", self.address, "--engine", ENGINE),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        )

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=STOP_SECONDS)
        return self.process.returncode


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(RUN_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def held(link: EngineLink) -> int:
    """How many requests an engine has, as it said itself last."""
    figures = link.status.figures
    return figures.waiting + figures.under_way


def test_two_engines_on_two_sockets_stand_in_for_each_other(bundle: Path, tmp_path: Path) -> None:
    first, second = (EngineProcess(bundle, tmp_path / "state", name) for name in ("first", "second"))

    async def main() -> None:
        both = RemoteEngine([first.address, second.address])
        both.start()
        await until(lambda: [one.ready for one in both.status.engines] == [True, True])
        delay = tmp_path / DELAY_FILE
        delay.write_text("600")
        waiting = [asyncio.create_task(both.recommend(asked(f"u{user}", wait=120))) for user in range(4)]
        await until(lambda: [held(one) for one in both._links] == [2, 2])
        first.process.kill()
        await until(lambda: both._links[1].in_flight == 4)
        delay.unlink()
        answers = await asyncio.gather(*waiting)
        assert [len(one.items) for one in answers] == [3] * 4, "what the first one held went to the second"
        delay.write_text("600")
        waiting = [asyncio.create_task(both.recommend(asked(f"v{user}", wait=120))) for user in range(4)]
        await until(lambda: held(both._links[1]) == 4)
        second.process.terminate()
        await until(lambda: not both._links[1].status.ready)
        delay.unlink()
        answers = await asyncio.gather(*waiting)
        assert [len(one.items) for one in answers] == [3] * 4, "it was told to stop, and finished first"
        await both.stop()

    try:
        assert first.said() == f"the engine of {bundle} listens at {first.address}\n"
        assert "the model is loaded, after" in first.said()
        third = EngineProcess(bundle, tmp_path / "state", "first")
        _, why = third.process.communicate(timeout=RUN_SECONDS)
        assert (third.process.returncode, "is in use by another process" in why) == (2, True)
        asyncio.run(main())
        assert second.process.wait(STOP_SECONDS) == 0
        assert not (tmp_path / "state" / "second.sock").exists()
    finally:
        for one in (first, second):
            one.end(signal.SIGKILL)


def test_a_gateway_alone_answers_without_an_engine_and_shares_no_port_with_states_in_memory(
    bundle: Path, tmp_path: Path
) -> None:
    arguments = ("gateway", *places(bundle, tmp_path / "state"), "--port", "0")
    shared = subprocess.run(
        command(*arguments, "--share-port"), capture_output=True, text=True, env=environment(), timeout=RUN_SECONDS
    )
    assert shared.returncode == 2
    assert "users' states are in this gateway's memory" in shared.stderr
    alone = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), text=True
    )
    try:
        assert alone.stdout is not None
        url = alone.stdout.readline().partition(" at ")[2].split()[0]
        started = time.monotonic()
        answer = httpx.post(f"{url}/api/v1/recommend", json={"user_id": "u1"}, timeout=RUN_SECONDS).json()
        assert answer["data"]["source"] == "popular_segment"
        assert time.monotonic() - started < 20
        alone.terminate()
        assert alone.wait(STOP_SECONDS) == 0
    finally:
        alone.kill()
        alone.wait()
        if alone.stdout is not None:
            alone.stdout.close()
