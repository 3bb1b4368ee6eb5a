"""A model asked through gRPC: the same answers, deadlines and withdrawals as in the process that holds it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from asterism.core.bundle import Bundle
from asterism.core.errors import BundleError, ModelError, OverloadedError, RequestError, StoreUnavailableError
from asterism.serving.grpc.addresses import MODEL_SERVICE
from asterism.serving.grpc.errors import CODE_KEY
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.proto.model_pb2_grpc import ModelServiceStub
from asterism.serving.grpc.queries import answer_of, query_of
from asterism.serving.grpc.remote_engine import RemoteEngine
from asterism.serving.grpc.server import MOST_MESSAGE_BYTES
from asterism.serving.ports import EngineAnswer, EngineRequest, HistoryEvent
from serving.engine.stepping import FINISH, asked, begun, diary, take_steps, until, write_variant
from serving.grpc.hosting import Hosted, hosted, run, two_hosted
from serving.small_market import HOLD_FILE, ITEM_IDS, write_bundle

PLAIN = 0  # a packed format that nobody has
LONG = 120.0  # far more than anything takes on a slow machine
AT_ONCE_SECONDS = 30.0  # as well; who waits for an engine waits far longer
ENDLESS = 60_000  # steps: ten minutes, so that what ends before was left or told to end


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle").path


@contextlib.asynccontextmanager
async def calling(one: Hosted) -> AsyncIterator[Any]:
    """The service as a stranger calls it."""
    async with grpc.aio.insecure_channel(one.server.address) as channel:
        yield ModelServiceStub(channel)


@pytest.mark.parametrize("talks", [True, False])
def test_it_answers_what_the_pool_answers_packed_or_plain_one_or_many(bundle: Path, talks: bool) -> None:
    history = (HistoryEvent(1000, "lamps-03", "click", 2.0, "home", "phone"), HistoryEvent(1001, "mugs-01", "view"))
    asked = EngineRequest(history, 1, frozenset({"lamps-05"}), user_id="u", deadline=time.monotonic() + LONG)
    requests = [replace(asked, count=count) for count in (1, 5, 100)]

    async def work(one: Hosted) -> None:
        expected = await asyncio.gather(*map(one.pool.recommend, requests))
        assert [len(answer.items) for answer in expected] == [1, 5, len(ITEM_IDS) - 1]
        assert await asyncio.gather(*map(one.remote.recommend, requests)) == expected
        async with calling(one) as stub:
            for packed_format in (PLAIN, 1):
                queries = [query_of(request, packed_format) for request in requests]
                many = await stub.Predict(model_pb2.PredictRequest(queries=queries))
                assert list(map(answer_of, many.results)) == expected
                single = await stub.Predict(model_pb2.PredictRequest(queries=queries[:1]))
                assert list(map(answer_of, single.results)) == expected[:1]

    run(bundle, work, talks=talks)


def test_what_is_known_of_the_model_is_known_elsewhere(bundle: Path) -> None:
    async def work(one: Hosted) -> None:
        async with calling(one) as stub:
            described = await stub.Describe(model_pb2.DescribeRequest())
            assert (described.ready, described.items) == (True, len(ITEM_IDS))
        assert one.remote.status.bundle_version == one.pool.status.bundle_version == one.remote.bundle_version
        assert one.remote.status.engines == one.pool.status.engines
        assert {item: one.remote.semantic_id(item) for item in ITEM_IDS} == one.pool.semantic_ids
        assert one.remote.semantic_id("nothing") is None

    run(bundle, work)


def test_the_budget_is_the_schedulers_deadline(bundle: Path) -> None:
    async def work(one: Hosted) -> None:
        take_steps(bundle, ENDLESS)
        first = asyncio.create_task(one.remote.recommend(asked("first", wait=LONG)))
        await until(lambda: "first" in begun(bundle))
        with pytest.raises(OverloadedError, match=r"busy for longer than [\d.]+ s"):
            await one.remote.recommend(asked("second", wait=1.0))
        assert not first.done(), "it is told while the batch is under way"
        (bundle.parent / FINISH).touch()
        await first
        assert one.pool.status.figures.late == 1

    run(bundle, work)


def test_a_calls_deadline_is_the_schedulers_where_no_budget_is_given(bundle: Path) -> None:
    """Both run out together, so either the scheduler's word comes through or the client's own clock speaks."""

    async def work(one: Hosted) -> None:
        take_steps(bundle, ENDLESS)
        first = asyncio.create_task(one.remote.recommend(asked("first", wait=LONG)))
        await until(lambda: "first" in begun(bundle))
        plain = query_of(asked("second"), PLAIN)
        async with calling(one) as stub:
            await stub.Describe(model_pb2.DescribeRequest())  # so that the call finds an open connection
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await stub.Predict(model_pb2.PredictRequest(queries=[plain]), timeout=2)
                assert answer.results[0].error.code == OverloadedError.code
        await until(lambda: one.pool.status.figures.late + one.pool.status.figures.withdrawn >= 1)
        (bundle.parent / FINISH).touch()
        await first
        assert [note["answered"] for note in diary(bundle) if "answered" in note] == [["first"]]

    run(bundle, work)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_cancelled_request_is_withdrawn_and_its_batch_left(bundle: Path, streamed: bool) -> None:
    async def work(one: Hosted) -> None:
        take_steps(bundle, ENDLESS)
        async with calling(one) as stub:
            if streamed:
                waiting = asyncio.create_task(one.remote.recommend(asked("gone", wait=LONG)))
            else:
                message = model_pb2.PredictRequest(queries=[query_of(asked("gone"), PLAIN)])
                waiting = asyncio.ensure_future(stub.Predict(message))
            await until(lambda: "gone" in begun(bundle))
            take_steps(bundle, 1)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            answer = await asyncio.wait_for(one.remote.recommend(asked("next", wait=LONG)), LONG)
        assert len(answer.items) == 3, "a batch of ten minutes was left for it"
        assert one.pool.status.figures.withdrawn == 1

    run(bundle, work)
    assert [note["left"] for note in diary(bundle) if "left" in note] == [["gone"]]


def test_whoever_waits_in_person_goes_before_the_background(bundle: Path) -> None:
    async def work(one: Hosted) -> None:
        take_steps(bundle, ENDLESS)
        first = asyncio.create_task(one.remote.recommend(asked("first", wait=LONG)))
        await until(lambda: "first" in begun(bundle))
        order: list[str] = []

        async def note(name: str, request: EngineRequest) -> None:
            await one.remote.recommend(request)
            order.append(name)

        slow = asyncio.create_task(note("background", replace(asked("slow", wait=LONG - 10), background=True)))
        line = one.pool._shared.line
        await until(lambda: len(line) == 1)
        person = asyncio.create_task(note("person", asked("person", wait=LONG)))
        await until(lambda: len(line) == 2)
        assert [ticket.background for ticket in line.tickets] == [False, True], "the earlier deadline comes second"
        (bundle.parent / FINISH).touch()
        await asyncio.gather(first, slow, person)

    run(bundle, work)


def test_errors_keep_their_codes(bundle: Path) -> None:
    async def work(one: Hosted) -> None:
        async with calling(one) as stub:
            good = query_of(asked("good"), PLAIN)
            some = await stub.Predict(model_pb2.PredictRequest(queries=[model_pb2.Query(count=0), good]))
            assert [result.error.code for result in some.results] == [20001, 0]
            for queries in ([], [good] * 257):
                with pytest.raises(grpc.aio.AioRpcError, match="send 1 to 256 in a call") as refused:
                    await stub.Predict(model_pb2.PredictRequest(queries=queries))
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert dict(refused.value.trailing_metadata() or ())[CODE_KEY] == "20001"
            giant = model_pb2.Query(count=1, excluded=["x" * 1000] * (MOST_MESSAGE_BYTES // 1000 + 1))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Predict(model_pb2.PredictRequest(queries=[giant]))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len((await one.remote.recommend(asked("after", wait=LONG))).items) == 3

    run(bundle, work)


def test_what_is_asked_at_once_may_be_larger_than_a_message_and_one_too_large_is_refused_alone(bundle: Path) -> None:
    async def work(one: Hosted) -> None:
        half = frozenset({"x" * (MOST_MESSAGE_BYTES // 3)})
        some = [replace(asked(f"u{user}", wait=LONG), excluded=half) for user in range(5)]
        giant = replace(asked("giant", wait=LONG), excluded=frozenset({"x" * MOST_MESSAGE_BYTES}))
        found = await asyncio.gather(*map(one.remote.recommend, [*some, giant]), return_exceptions=True)
        assert [len(answer.items) for answer in found[:5] if isinstance(answer, EngineAnswer)] == [3] * 5
        assert isinstance(found[5], RequestError)
        assert "too large to be sent; exclude fewer" in str(found[5])
        assert one.remote.status.ready

    run(bundle, work)


def test_health_and_reflection_tell_what_is_served(bundle: Path) -> None:
    async def work(one: Hosted) -> None:
        async with grpc.aio.insecure_channel(one.server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", MODEL_SERVICE):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            )
            names = {service.name for service in (await listing.read()).list_services_response.service}
        assert names == {
            MODEL_SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }

    run(bundle, work)


@pytest.mark.parametrize("talks", [True, False])
def test_a_draining_server_answers_what_it_was_asked_and_then_nothing(bundle: Path, talks: bool) -> None:
    async def work(one: Hosted) -> None:
        take_steps(bundle, ENDLESS)
        waiting = [asyncio.create_task(one.remote.recommend(asked(f"u{user}", wait=LONG))) for user in range(5)]
        await until(lambda: len(one.pool._shared.pending) == 5)
        draining = asyncio.create_task(one.drain())
        await until(lambda: not one.remote.status.ready)
        assert not draining.done(), "it ends when what it was asked is answered"
        (bundle.parent / FINISH).touch()
        assert [len(answer.items) for answer in await asyncio.gather(*waiting)] == [3] * 5
        await draining
        with pytest.raises(ModelError, match="not ready"):
            await asyncio.wait_for(one.remote.recommend(asked("late", wait=LONG)), AT_ONCE_SECONDS)

    run(bundle, work, talks=talks)


def test_another_bundle_is_served_on_demand_or_refused_with_its_reason(bundle: Path) -> None:
    other = write_variant(bundle.parent / "other", 8)
    unreadable = write_variant(bundle.parent / "unreadable", 9, histories=False)

    async def work(one: Hosted) -> None:
        before = one.remote.bundle_version
        with pytest.raises(ModelError, match=r"histories\.parquet"):
            await one.remote.swap(unreadable)
        with pytest.raises(BundleError, match="there is no such folder"):
            await one.remote.swap(Bundle(bundle.parent / "nowhere", other.manifest))
        with pytest.raises(ModelError, match=f"holds bundle {other.version} here"):
            await one.remote.swap(Bundle(other.path, Bundle.open(bundle).manifest))
        assert one.remote.bundle_version == before
        await one.remote.swap(other)
        assert one.remote.bundle_version == other.version
        assert (await one.remote.recommend(asked("u", wait=LONG))).bundle_version == other.version

    run(bundle, work)


@pytest.mark.parametrize("talks", [True, False])
def test_a_request_whose_engine_is_lost_goes_to_another_one(bundle: Path, talks: bool) -> None:
    async def main() -> None:
        async with hosted(bundle, talks=talks) as one, hosted(bundle, talks=not talks) as other:
            both = RemoteEngine([one.server.address, other.server.address])
            both.start()
            await until(lambda: [replica.ready for replica in both.status.engines] == [True, True])
            take_steps(bundle, ENDLESS)
            waiting = [asyncio.create_task(both.recommend(asked(f"u{user}", wait=LONG))) for user in range(6)]
            pools = (one.pool, other.pool)
            await until(lambda: [len(pool._shared.pending) for pool in pools] == [3, 3])  # the load is shared
            await one.die()
            (bundle.parent / FINISH).touch()
            assert [len(answer.items) for answer in await asyncio.gather(*waiting)] == [3] * 6
            assert other.pool.status.figures.answered == 6
            await both.stop()

    asyncio.run(main())


def test_all_engines_swap_or_none_and_all_forget(bundle: Path) -> None:
    other = write_variant(bundle.parent / "other", 8)

    async def main() -> None:
        async with two_hosted(bundle) as (one, two, both):
            before = both.bundle_version

            async def refuse(bundle: str, version: str) -> None:
                raise ModelError("the second one cannot")

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(both._links[1], "swap", refuse)
                with pytest.raises(ModelError, match="the second one cannot"):
                    await both.swap(other)
            assert [pool.bundle_version for pool in (one.pool, two.pool)] == [before, before]
            await both.forget(["ann"])
            await until(lambda: diary(bundle).count({"forgotten": ["ann"]}) == 2)
            await two.die()
            await until(lambda: both.status.engines[1].ready is False)
            with pytest.raises(ModelError, match=r"is not ready, and all must swap together; nothing was"):
                await both.swap(other)
            assert one.pool.bundle_version == before

    asyncio.run(main())


def test_a_swap_that_is_given_up_once_the_new_engines_answer_is_noted_and_counts(bundle: Path) -> None:
    other = write_variant(bundle.parent / "elsewhere" / "other", 8)
    noted: list[str] = []

    async def work(one: Hosted) -> None:
        one.servicer._on_swap = lambda bundle: noted.append(bundle.version)
        take_steps(bundle, ENDLESS)
        held = asyncio.create_task(one.remote.recommend(asked("held", wait=LONG)))
        await until(lambda: "held" in begun(bundle))
        swap = asyncio.create_task(one.remote.swap(other))
        await until(lambda: one.remote.bundle_version == other.version)
        assert not swap.done()
        swap.cancel()
        await swap
        assert (await held).bundle_version == other.version, "what the old one had went to the new one"
        assert (noted, one.pool.bundle_version) == ([other.version], other.version)

    run(bundle, work)


def test_a_swap_that_is_given_up_while_its_ids_are_fetched_counts(bundle: Path) -> None:
    other = write_variant(bundle.parent / "other", 8)

    async def work(one: Hosted) -> None:
        (link,) = one.remote._links
        fetched = asyncio.Event()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(link, "_fetch_semantic_ids", fetched.wait)
            swap = asyncio.create_task(one.remote.swap(other))
            await until(lambda: link.told_version == other.version)
            assert link.status.bundle_version != other.version
            swap.cancel()
            await swap
            fetched.set()
        await until(lambda: one.pool._other_fleet is None)  # the old engine has ended
        assert one.pool.bundle_version == other.version

    run(bundle, work)


def test_a_swap_that_is_given_up_between_two_engines_says_which_have_switched(bundle: Path) -> None:
    other = write_variant(bundle.parent / "other", 8)

    async def main() -> None:
        async with two_hosted(bundle) as (one, two, both):
            reached = asyncio.Event()

            async def hang(bundle: str, version: str) -> None:
                reached.set()
                await asyncio.Event().wait()

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(both._links[1], "swap", hang)
                swap = asyncio.create_task(both.swap(other))
                await reached.wait()
                swap.cancel()
                with pytest.raises(OverloadedError) as told:
                    await swap
            assert str(told.value) == (
                f"the service was stopped when {one.server.address} served {other.path} already and "
                f"{two.server.address} did not; deploy either bundle once it is back"
            )
            assert [pool.bundle_version for pool in (one.pool, two.pool)] == [other.version, both._bundle.version]

    asyncio.run(main())


def test_a_swap_that_failed_tells_its_reason_where_its_undoing_is_given_up(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_variant(bundle.parent / "other", 8)

    async def main() -> None:
        async with two_hosted(bundle) as (one, two, both):
            returning = asyncio.Event()

            async def refuse(bundle: str, version: str) -> None:
                raise ModelError("the second one cannot")

            async def hang(bundle: str, version: str) -> None:
                returning.set()
                await asyncio.Event().wait()

            first = both._links[0]
            swap_first = first.swap

            async def swap_once(bundle: str, version: str) -> None:
                await swap_first(bundle, version)
                patch.setattr(first, "swap", hang)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(first, "swap", swap_once)
                patch.setattr(both._links[1], "swap", refuse)
                swap = asyncio.create_task(both.swap(other))
                await returning.wait()
                swap.cancel()
                with pytest.raises(ModelError, match="the second one cannot"):
                    await swap
            assert f"was stopped when {one.server.address} served {other.path} already" in caplog.text
            assert two.server.address in caplog.text

    asyncio.run(main())


def test_a_swap_that_fails_leaves_an_engine_with_what_another_gateway_had_it_serve(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, broken = write_variant(bundle.parent / "theirs", 8), write_variant(bundle.parent / "no", 9, histories=False)

    async def main() -> None:
        async with hosted(bundle) as one:
            mine = RemoteEngine([one.server.address], Bundle.open(bundle))
            mine.start()
            await until(lambda: mine.status.ready)
            await one.remote.swap(theirs)  # another gateway's deploy
            await until(lambda: mine.bundle_version == theirs.version)
            with pytest.raises(ModelError, match="cannot be loaded"):
                await mine.swap(broken)
            assert one.pool.bundle_version == theirs.version
            assert "before a swap that failed" not in caplog.text, "it never switched"
            await mine.stop()

    asyncio.run(main())


def test_a_swap_that_fails_tells_of_an_engine_that_it_cannot_take_back(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, new = write_variant(bundle.parent / "theirs", 8), write_variant(bundle.parent / "new", 9)

    async def main() -> None:
        async with two_hosted(bundle) as (one, two, both):
            before = two.pool.bundle_version
            await one.remote.swap(theirs)  # another gateway's deploy
            await until(lambda: both._links[0].told_version == theirs.version)

            async def refuse(bundle: str, version: str) -> None:
                raise ModelError("the second one cannot")

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(both._links[1], "swap", refuse)
                with pytest.raises(ModelError, match="the second one cannot"):
                    await both.swap(new)
            assert [pool.bundle_version for pool in (one.pool, two.pool)] == [new.version, before]
            assert f"served bundle {theirs.version} before a swap that failed" in caplog.text
            assert f"is left with {new.version}" in caplog.text

    asyncio.run(main())


def test_an_engine_that_refuses_a_bundle_keeps_what_it_was_given_while_the_refusal_waited(bundle: Path) -> None:
    theirs = write_variant(bundle.parent / "elsewhere" / "theirs", 8)
    broken = write_variant(bundle.parent / "no", 9, histories=False)
    (theirs.path.parent / HOLD_FILE).touch()

    async def main() -> None:
        async with hosted(bundle, factory="serving.small_market:load_engine") as one:
            mine = RemoteEngine([one.server.address], Bundle.open(bundle))
            mine.start()
            await until(lambda: mine.status.ready)
            other_gateways = asyncio.create_task(one.remote.swap(theirs))
            await until(lambda: one.pool._other_fleet is not None)
            swap = asyncio.create_task(mine.swap(broken))
            await asyncio.sleep(0)  # it begins while the engine serves what this gateway does
            (theirs.path.parent / HOLD_FILE).unlink()
            await other_gateways
            with pytest.raises(ModelError, match="cannot be loaded"):
                await swap
            assert one.pool.bundle_version == theirs.version
            await mine.stop()

    asyncio.run(main())


def test_an_engine_that_shuts_down_gives_up_a_swap(bundle: Path) -> None:
    other = write_variant(bundle.parent / "elsewhere" / "other", 8)
    (other.path.parent / HOLD_FILE).touch()

    async def main() -> None:
        async with hosted(bundle, factory="serving.small_market:load_engine") as one:
            before = one.pool.bundle
            swap = asyncio.create_task(one.remote.swap(other))
            await until(lambda: one.pool._other_fleet is not None)
            await one.drain()
            with pytest.raises(StoreUnavailableError, match="this engine is shutting down, and goes on with"):
                await swap
            assert one.pool.bundle is before

    asyncio.run(main())


def test_a_gateway_tells_that_an_engine_serves_another_bundle_and_puts_it_right(bundle: Path) -> None:
    other = write_variant(bundle.parent / "other", 8)

    async def main() -> None:
        async with two_hosted(bundle) as (_, two, gateway):
            mine = Bundle.open(bundle)
            assert gateway.status.error is None
            await two.remote.swap(other)
            await until(lambda: gateway.status.error is not None)
            assert gateway.status.error == (
                f"the engine at {two.server.address} serves bundle {other.version}, and this gateway {mine.version}; "
                "unless a deploy is under way, deploy one of them, or start the gateway again with what the engine "
                "serves"
            )
            await gateway.swap(mine)
            assert (two.pool.bundle_version, gateway.status.error) == (mine.version, None)

    asyncio.run(main())


def test_no_address_answers_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        engine = RemoteEngine([f"unix:{tmp_path}/nobody.sock"])
        engine.start()
        with pytest.raises(ModelError, match="not ready"):
            await asyncio.wait_for(engine.recommend(asked("u", wait=LONG)), AT_ONCE_SECONDS)
        await until(lambda: "cannot be reached" in (engine.status.error or ""))
        await engine.stop()

    asyncio.run(main())
