"""No skew: what training reads in the logs is what the engine was asked, and what the feedback itself makes again."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.bundle import Bundle
from asterism.core.clock import ManualClock
from asterism.core.errors import StorageError
from asterism.core.records import Action
from asterism.data.item_attributes import Predicate
from asterism.serving.bundle_tables import read_histories
from asterism.serving.features.asking import engine_request
from asterism.serving.features.replaying import asked_again
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.serving.recommendation import RecommendRequest
from asterism.serving.service import Service, ServiceSettings, open_service
from asterism.stores import used_features
from asterism.stores.event_log import Event, LocalEventLog
from asterism.stores.exposure_log import Exposure, LocalExposureLog, Shown
from asterism.stores.used_features import SCHEMA, FeatureReader, FeatureWriter, UsedFeatures
from asterism.stores.user_state import NO_STATE, LocalUserStates, RecentEvent, UserState, Visitor, warm
from serving.running import ENGINE, environment
from serving.small_market import ITEM_IDS, write_bundle

ADA = Visitor("ada")
STATE = UserState((RecentEvent(5, "a", Action.CLICK, 2.0, "home"),), frozenset({"a", "é\n"}), ("b",), revision=77)


class Witness:
    """Stands before an engine and writes down what it is asked."""

    def __init__(self, service: Service) -> None:
        self.asked: list[EngineRequest] = []
        self._recommend = service.engine.recommend

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        self.asked.append(replace(request, deadline=None))
        return await self._recommend(request)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[EngineRequest], Path]:
    """A service that a dozen visitors used in every way, what its engine was asked, and its state folder."""
    bundle = write_bundle(tmp_path / "bundle").path
    clock = ManualClock(2_000.75)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    service = open_service(ServiceSettings(bundle, tmp_path / "state", engine=ENGINE, deadline_seconds=20), clock)
    witness = Witness(service)
    monkeypatch.setattr(service.engine, "recommend", witness.recommend)
    asyncio.run(_use(service, clock))
    return witness.asked, tmp_path / "state"


async def _use(service: Service, clock: ManualClock) -> None:
    service.start()
    try:
        await service.engine.wait_ready()
        await _turns(service, clock)
    finally:
        await service.stop()


async def _turns(service: Service, clock: ManualClock) -> None:
    drawn = random.Random(4)
    actions = [Action.CLICK, Action.PURCHASE, Action.DISLIKE, Action.IMPRESSION, Action.RATING]
    visitors = [*(Visitor(f"u{number}") for number in range(6)), Visitor("new"), Visitor(session_id="s-1")]
    for turn in range(60):
        visitor = drawn.choice(visitors)
        late = drawn.choice([0, 0, 500])
        event = Event(f"e{turn}", drawn.choice(ITEM_IDS), drawn.choice(actions), int(clock.now()) - late, *visitor, 4.0)
        await service.feedback.accept([replace(event, scene=drawn.choice([None, "home"]))])
        request = RecommendRequest(drawn.choice([visitor, visitor, drawn.choice(visitors)]), count=5)
        kind = turn % 4
        if kind == 1:
            request = replace(request, scene="home", device="phone", exclude=frozenset(drawn.sample(ITEM_IDS, 3)))
        elif kind == 2:
            request = replace(request, wanted=Predicate(frozenset({"mugs", "books"}), 1.5, None))
        elif kind == 3:
            request = replace(request, allowed=frozenset(drawn.sample(ITEM_IDS, 20)))
        await service.recommender.recommend(request)
        await service.recommender.recommend(RecommendRequest(request.visitor, count=5))  # often from the slate
        clock.advance(drawn.choice([0.0, 0.5, 7.25]))


def exposures_in(folder: Path) -> list[Exposure]:
    log = LocalExposureLog(folder)
    found = list(log.replay())
    log.close()
    return found


def test_the_logged_features_ask_the_engine_the_same_again(served: tuple[list[EngineRequest], Path]) -> None:
    asked, state = served
    again = [asked_again(one) for one in exposures_in(state / "exposures")]
    assert len(again) == 120
    rebuilt = [one for one in again if one is not None]
    assert all(one in asked for one in rebuilt)
    assert all(one in rebuilt for one in asked), "everything that the engine was asked is in the log"
    assert len(asked) < len(rebuilt) <= 120, "answers from kept slates tell what was asked when these were made"


def test_what_was_served_is_what_the_logs_make_again(served: tuple[list[EngineRequest], Path]) -> None:
    _, state = served
    states = LocalUserStates()
    warm(states, read_histories(Bundle.open(state.parent / "bundle")))
    log = LocalEventLog(state / "events")
    events = list(log.replay())
    log.close()
    compared = 0
    for turn, pair in enumerate(zip(*[iter(exposures_in(state / "exposures"))] * 2, strict=True)):
        event = events[turn]
        kept = RecentEvent(event.timestamp, event.item_id, event.action, event.value, event.scene)  # by its fields
        states.apply(Visitor(event.user_id, event.session_id), kept)
        for exposure in pair:
            recomputed = states.get(Visitor(exposure.user_id, exposure.session_id))
            assert exposure.used is not None
            assert exposure.used.state == recomputed, "features made from the event log alone are those that were used"
            logged = asked_again(exposure)
            if logged is not None:
                fresh = engine_request(
                    recomputed,
                    user_id=exposure.user_id,
                    count=logged.count,
                    timestamp=logged.timestamp or 0,
                    excluded=recomputed.left_out | exposure.used.more_excluded,
                    scene=logged.scene,
                    device=logged.device,
                    wanted=logged.wanted,
                    allowed=logged.allowed,
                )
                assert logged == fresh
                compared += 1
    assert compared > 60


def test_a_state_is_written_once_for_all_answers_made_from_it(tmp_path: Path) -> None:
    many = replace_seen(STATE, 500)
    log = LocalExposureLog(tmp_path)
    for number in range(100):
        log.record(Exposure(f"x{number}", number, ("a",), "model", "ada", used=UsedFeatures(many, 9.5, 30)))
    log.close()
    text = b"".join(file.read_bytes() for file in tmp_path.glob("*.log"))
    assert text.count(b'"state":"') == 1
    assert len(text) / 100 < 300, "bytes an answer"
    assert {one.used for one in exposures_in(tmp_path)} == {UsedFeatures(many, 9.5, 30)}


@pytest.mark.parametrize("each_written", [False, True])
def test_what_is_shown_again_is_logged_as_if_it_were_recorded_anew(tmp_path: Path, each_written: bool) -> None:
    text = 'a ","item_ids":[ of é'
    first = Exposure(text, 7, ("a", 'b"'), "model", "ada", None, "home", "v1", None, UsedFeatures(STATE, 9.5, 30))
    anonymous = Exposure("x", 7, ("a",), "model", None, "one visit", used=UsedFeatures(STATE, 9.5, 30))
    log = LocalExposureLog(tmp_path, gathering_seconds=60.0)
    expected = []
    for exposure in (
        first,
        anonymous,
        replace(first, used=None),
        replace(anonymous, used=UsedFeatures(NO_STATE, 1, 0)),
    ):
        shown = Shown(exposure)
        for number in range(4):
            if number != 1:
                log.record_again(shown, f"{number} {text}", number)
            else:
                log.record(replace(exposure, attribution_id=f"{number} {text}", timestamp=number))
            expected.append(replace(exposure, attribution_id=f"{number} {text}", timestamp=number))
            if each_written:
                log.forget({}).result()  # comes behind what waits
        assert (shown.written is not None) is each_written
    log.close()
    assert exposures_in(tmp_path) == expected
    lines = b"".join(file.read_bytes() for file in tmp_path.glob("*.log"))
    assert lines.count(b'"state":"') == 2, "of two visitors, once each"


def test_a_state_that_left_the_log_or_the_memory_of_its_writer_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(used_features, "_WRITTEN", 1)
    log = LocalExposureLog(tmp_path)
    shown = [Shown(Exposure("x", 1, ("a",), "model", user, used=UsedFeatures(STATE, 9.5, 30))) for user in "ab"]
    for turn in range(6):
        log.record_again(shown[turn % 2], f"{turn}", turn)
    log.forget({}).result()  # comes behind what waits

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(log._files, "append", full)
        log.record_again(shown[1], "lost", 6)
        log.forget({}).result()
    assert log.lost == 1
    log.record_again(shown[1], "after", 7)
    log.close()
    found = exposures_in(tmp_path)
    assert [one.attribution_id for one in found] == ["0", "1", "2", "3", "4", "5", "after"]
    assert {one.used for one in found} == {UsedFeatures(STATE, 9.5, 30)}, "each can be read by itself"
    lines = b"".join(file.read_bytes() for file in tmp_path.glob("*.log"))
    assert lines.count(b'"state":"') == 7


def test_lines_joined_beforehand_are_read_where_the_write_between_failed_and_states_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(used_features, "_WRITTEN", 2)
    log = LocalExposureLog(tmp_path, gathering_seconds=60.0)  # so that what waits is written where we say
    used = {user: UsedFeatures(replace_seen(STATE, number), 9.5, 30) for number, user in enumerate("abcdef", 1)}
    shown = [Shown(Exposure("x", 1, ("a",), "model", user, used=used[user])) for user in used]
    append, drawn = log._files.append, random.Random(0)
    expected: list[str] = []
    failures: list[int] = []

    def now_and_then(*lines: bytes) -> object:
        if drawn.random() < 0.3:
            failures.append(len(lines))
            log.record_again(drawn.choice(shown), f"meanwhile {len(failures)}", 7)
            raise StorageError("the disk is full")
        expected.extend(json.loads(line)["attribution_id"] for line in lines)
        return append(*lines)

    with monkeypatch.context() as patch:
        patch.setattr(log._files, "append", now_and_then)
        for number in range(600):
            log.record_again(drawn.choice(shown), f"{number}", number)
            if drawn.random() < 0.2:
                log.forget({}).result()
        log.forget({}).result()
    log.close()
    found = exposures_in(tmp_path)
    assert log.lost == sum(failures) > 50
    assert [one.attribution_id for one in found] == expected
    assert all(one.used == used[one.user_id] for one in found if one.user_id), "each can be read by itself"


def test_a_state_that_is_named_again_stays_known_while_others_leave() -> None:
    writer, used = FeatureWriter(), UsedFeatures(STATE, 1.0, 3)
    writer.written(ADA, used)
    known = writer.known(ADA, used)
    assert known is not None
    for number in range(3 * used_features._WRITTEN):
        known.was_named = True
        writer.written(Visitor(f"{number}", None), used)
    assert known.is_known
    for number in range(2 * used_features._WRITTEN + 1):
        writer.written(Visitor(f"more {number}", None), used)
    assert not known.is_known
    assert writer.known(ADA, used) is None


def replace_seen(state: UserState, count: int) -> UserState:
    return replace(state, seen=frozenset(f"item-{number:06d}" for number in range(count)))


def test_what_cannot_be_read_is_told_and_what_was_erased_is_none() -> None:
    line, packed = FeatureWriter().written(ADA, UsedFeatures(STATE, 1.0, 3))
    assert packed is not None
    assert FeatureReader().read(line, packed) == UsedFeatures(STATE, 1.0, 3)
    assert FeatureReader().read(line, None) is None
    line.schema = SCHEMA + 1
    with pytest.raises(StorageError, match="upgrade Asterism"):
        FeatureReader().read(line, packed)


def test_after_a_failed_write_states_are_written_again() -> None:
    writer = FeatureWriter()
    used = UsedFeatures(STATE, 1.0, 3)
    assert [writer.written(ADA, used)[1] is None for _ in range(2)] == [False, True]
    writer.start_anew()
    assert writer.written(ADA, used)[1] is not None
    assert writer.written(ADA, used._replace(state=UserState()))[0].state == ""
