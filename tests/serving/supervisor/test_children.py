"""What the supervisor does with processes that end, refuse, hang or are told to stop. They are real, and tiny."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asterism.core.errors import StorageError
from asterism.serving.supervisor import child
from asterism.serving.supervisor.child import Child, ChildSpec
from asterism.serving.supervisor.run_folder import RunFolder
from asterism.serving.supervisor.supervising import supervise

PATIENT = """
import pathlib, signal, sys, time
def end(*_):
    time.sleep(0.1)
    with open({log!r}, "a") as log: log.write({name!r} + " ended\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("hello", flush=True)
print("warning", file=sys.stderr, flush=True)
with open({log!r}, "a") as log: log.write({name!r} + " began\\n")
while True: time.sleep(0.01)
"""
REFUSING = """
import os, sys, time
with open({log!r}, "a") as log: log.write("up\\n")
while not os.path.exists({log!r} + ".known"): time.sleep(0.01)
sys.exit(2)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open({log!r}, "a") as log: log.write("up\\n")
time.sleep(60)
"""

ENDING_ANOTHER = """
import pathlib, os, signal, sys, time
other = pathlib.Path({log!r}).parent / "run" / "worker.pid"
def end(*_):
    os.kill(int(other.read_text()), {number})
    while other.exists(): time.sleep(0.01)
    time.sleep(0.5)  # in which another one would be started
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with open({log!r}, "a") as log: log.write("gateway began\\n")
while True: time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def _hears_all_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_LAST_WORDS_SECONDS", 60.0)


def script(text: str, log: Path, name: str = "x", number: int = 0) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", text.format(log=str(log), name=name, number=number))


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def run(specs: list[ChildSpec], state: Path, *steps: Callable[[], object]) -> int:
    """Supervise; a signal is sent after each step has come true, a second one after the second step."""
    stopped: list[int] = []

    async def main() -> int:
        supervising = asyncio.create_task(supervise(specs, folder, lambda: stopped.append(1)))
        for step in steps:
            while not step() and not supervising.done():
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(supervising, 120)

    folder = RunFolder(state)
    try:
        status = asyncio.run(main())
    finally:
        folder.close()
    assert stopped == [1], "the port is let go of before the first process is stopped, and once"
    assert not list((state / "run").glob("*.pid"))
    return status


def test_they_are_stopped_one_after_the_other_the_last_one_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    names = ["engine", "worker", "gateway"]
    specs = [ChildSpec(name, script(PATIENT, log, name), speaks=name == "gateway") for name in names]
    assert run(specs, tmp_path, lambda: len(lines(log)) == 3) == 0
    assert sorted(lines(log)[:3]) == ["engine began", "gateway began", "worker began"]
    assert lines(log)[3:] == ["gateway ended", "worker ended", "engine ended"]
    out, err = capfd.readouterr()
    assert out == "hello\n", "only the gateway speaks to the user"
    said = {"engine | hello", "worker | hello", "engine | warning", "worker | warning", "gateway | warning"}
    assert said <= set(err.splitlines())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_one_that_ends_while_the_service_stops_is_not_started_again(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child, "_FIRST_PAUSE_SECONDS", 0.02)
    log = tmp_path / "log"
    specs = [
        ChildSpec("worker", script(PATIENT, log, "worker")),
        ChildSpec("gateway", script(ENDING_ANOTHER, log, number=number.value)),
    ]
    assert run(specs, tmp_path, lambda: len(lines(log)) == 2) == 0
    assert lines(log).count("worker began") == 1
    said = "the worker ended with status -9 while the service stops"
    assert [one.getMessage() for one in caplog.records] == ([said] if number == signal.SIGKILL else [])


def test_one_that_refuses_ends_all_with_its_status_and_its_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    refusing = script("import sys; print('error: no such model', file=sys.stderr); sys.exit(2)", log)
    specs = [ChildSpec("engine", refusing), ChildSpec("gateway", script(PATIENT, log, "gateway"))]
    assert run(specs, tmp_path) == 2
    assert "engine | error: no such model" in capfd.readouterr().err.splitlines()


def test_one_that_dies_is_started_again_after_pauses_that_grow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_FIRST_PAUSE_SECONDS", 0.02)
    log = tmp_path / "log"
    dying = script("open({log!r}, 'a').write('up\\n'); import os; os.kill(os.getpid(), 9)", log)
    assert run([ChildSpec("worker", dying)], tmp_path, lambda: len(lines(log)) == 4) == 0
    told = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    pauses = ("0.02", "0.04", "0.08")
    assert told[:3] == [f"the worker ended with status -9; it is started again in {one} s" for one in pauses]


def test_one_that_was_ready_once_is_started_again_even_where_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    refusing = script(REFUSING, log)
    asked: list[int] = []

    async def ready() -> bool:
        asked.append(1)
        if len(asked) == 2:  # so what it answered the first time is known
            (tmp_path / "log.known").touch()
        return True

    monkeypatch.setattr(child, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(child, "_PROBE_EVERY_SECONDS", 0.02)
    assert run([ChildSpec("engine", refusing, ready)], tmp_path, lambda: len(lines(log)) == 2) == 0


def test_one_that_answers_no_more_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child, "_PROBE_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(child, "_PROBE_AGAIN_SECONDS", 0.02)
    log = tmp_path / "log"
    asked: list[float] = []

    async def probe() -> bool:
        if not lines(log):
            return False
        asked.append(time.monotonic())
        if len(asked) > 1:
            raise ConnectionError("hung")
        return True

    specs = [ChildSpec("gateway", script(PATIENT, log, "gateway"), probe)]
    assert run(specs, tmp_path, lambda: lines(log).count("gateway began") == 2) == 0
    assert "the gateway does not answer any more" in caplog.text
    assert "ended with status -9" in caplog.text


def test_before_its_first_answer_a_process_may_take_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    asked: list[float] = []

    async def probe() -> bool:
        asked.append(time.monotonic())
        if len(asked) == 2:
            return False  # it answers, and cannot do its work yet
        raise ConnectionError("still replaying")

    monkeypatch.setattr(child, "_FIRST_PAUSE_SECONDS", 0.02)
    assert (
        run(
            [ChildSpec("gateway", script(PATIENT, log, "gateway"), probe)],
            tmp_path,
            lambda: len(asked) > 8 and lines(log),
        )
        == 0
    )
    assert lines(log) == ["gateway began", "gateway ended"]


def test_one_that_follows_another_is_started_once_that_is_ready(tmp_path: Path) -> None:
    log = tmp_path / "log"
    is_ready: list[bool] = []

    async def probe() -> bool:
        is_ready.append(len(is_ready) >= 3 and "gateway began" in lines(log))
        return is_ready[-1]

    specs = [
        ChildSpec("worker", script(PATIENT, log, "worker"), follows="gateway"),
        ChildSpec("gateway", script(PATIENT, log, "gateway"), probe),
    ]
    assert run(specs, tmp_path, lambda: "worker began" in lines(log)) == 0
    assert lines(log)[:2] == ["gateway began", "worker began"]
    assert True in is_ready


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    specs = [ChildSpec(name, script(STUBBORN, log), stop_seconds=60.0) for name in ("engine", "gateway")]
    started = time.monotonic()
    assert run(specs, tmp_path, lambda: len(lines(log)) == 2, lambda: time.monotonic() > started + 0.5) == 0
    assert time.monotonic() - started < 30, "they would have slept for a minute"


def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    specs = [ChildSpec("gateway", script(STUBBORN, log), stop_seconds=0.3)]
    assert run(specs, tmp_path, lambda: len(lines(log)) == 1) == 0


def test_a_state_has_one_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asterism.serving.supervisor.run_folder._PATIENCE_SECONDS", 0.2)
    first = RunFolder(tmp_path)
    with pytest.raises(StorageError, match="in use by another process; stop it, or name another place with --state"):
        RunFolder(tmp_path)
    first.close()
    RunFolder(tmp_path).close()


def test_one_that_is_told_to_stop_while_it_is_being_started_stops(tmp_path: Path) -> None:
    async def main() -> None:
        for hurry in (False, True):
            one = Child(ChildSpec("engine", ("sleep", "1000"), stop_seconds=1000.0), folder)
            keeping = asyncio.create_task(one.keep())
            await asyncio.sleep(0)  # it is about to have a process
            one.stop()
            if hurry:
                one.kill()
            assert await asyncio.wait_for(keeping, 120) == 0

    folder = RunFolder(tmp_path)
    asyncio.run(main())
    folder.close()
    assert not list((tmp_path / "run").glob("*.pid"))


def test_a_full_disk_keeps_nobody_from_being_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child, "_FIRST_PAUSE_SECONDS", 0.02)
    log = tmp_path / "log"
    dying = script("open({log!r}, 'a').write('up\\n'); import os; os.kill(os.getpid(), 9)", log)
    (tmp_path / "run" / "worker.pid.new").mkdir(parents=True)  # so that no number can be written down
    assert run([ChildSpec("worker", dying)], tmp_path, lambda: len(lines(log)) == 3) == 0
    assert f"{tmp_path / 'run'} does not tell the number of the worker" in caplog.text


def test_one_that_cannot_be_started_just_now_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child, "_FIRST_PAUSE_SECONDS", 0.02)
    log, program = tmp_path / "log", tmp_path / "program"

    def appears() -> bool:
        if not program.exists() and "the worker cannot be started (No such file or directory)" in caplog.text:
            program.symlink_to(sys.executable)
        return "worker began" in lines(log)

    specs = [ChildSpec("worker", (str(program), *script(PATIENT, log, "worker")[1:]))]
    assert run(specs, tmp_path, appears) == 0
