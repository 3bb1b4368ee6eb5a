"""The work of an engine process: batch after batch, and between them the changes of items."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import BinaryIO

import msgspec

from asterism.core.errors import AbandonedError, ModelError
from asterism.serving.engine import messages
from asterism.serving.engine.compact import CompactBatch, CompactEngine
from asterism.serving.engine.foresight import Foresight
from asterism.serving.engine.inbox import Inbox, Message
from asterism.serving.ports import ElasticEngine, Engine, EngineAnswer, EngineRequest, Remembering

logger = logging.getLogger(__name__)


def _tell_nobody() -> None:
    pass


class Answering:
    """Answers with one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._elastic = engine if isinstance(engine, ElasticEngine) else None
        self._remembering = engine if isinstance(engine, Remembering) else None
        self._compact = engine if isinstance(engine, CompactEngine) else None
        self._foresight = Foresight()
        self._is_broken = False  # what an engine that lost count answers next may be anybody's
        self._gone: frozenset[str] = frozenset()  # for an engine whose catalogue cannot change

    def decode(self, body: bytes) -> Message:
        """A message of the service; a batch as the engine reads it, where it can."""
        found = None if self._compact is None else self._compact.read(body)
        return messages.decode_to_engine(body) if found is None else found

    def run(self, inbox: Inbox, sink: BinaryIO) -> None:
        """Answer until the service has gone; an engine's exception becomes that batch's error."""

        def tell_nearly_done() -> None:
            with contextlib.suppress(OSError):  # the reply finds out as well that nobody listens
                sink.write(messages.NEARLY_DONE)
                sink.flush()

        while (message := inbox.take()) is not None:
            if isinstance(message, messages.Availability):
                self._change(message)
                continue
            if isinstance(message, messages.Forget):
                if self._remembering is not None:
                    self._remembering.forget(message.digests)
                continue
            sink.write(messages.pack(self.reply(message, inbox, tell_nearly_done)))
            sink.flush()
            if self._is_broken:
                os._exit(3)

    def _change(self, change: messages.Availability) -> None:
        if self._elastic is None:
            self._gone = self._gone - change.back | change.gone
        else:
            self._elastic.set_available(change.gone, False)
            self._elastic.set_available(change.back, True)

    def reply(
        self,
        batch: messages.Batch | CompactBatch,
        inbox: Inbox,
        tell_nearly_done: Callable[[], None] = _tell_nobody,
    ) -> messages.Reply | messages.PackedReply:
        """The answer to a batch, of which the inbox knows what was withdrawn; tells shortly before there is one."""
        self._foresight.begin(time.monotonic())
        if isinstance(batch, messages.Batch):
            return self._reply(batch, inbox, tell_nearly_done)
        try:
            if self._compact is None or inbox.withdrawn(batch.number) or (batch.deadlines <= time.monotonic()).any():
                return self._reply(messages.decode_batch(batch.body), inbox, tell_nearly_done)
            wanted = self._wanted(inbox, batch.number, range(len(batch.counts)), tell_nearly_done)
            answers = msgspec.Raw(self._compact.recommend_compact(batch, wanted))
            self._foresight.end(time.monotonic())
            return messages.PackedReply(batch.number, answers, kept_bytes=self._kept_bytes())
        except AbandonedError:
            return self._abandoned(batch.number, len(batch.counts))
        except Exception as error:  # as in `_reply`
            return self._failed(batch.number, len(batch.counts), error)

    def _abandoned(self, number: int, rows: int) -> messages.Reply:
        logger.debug("batch %d was left: nobody waits for it any more", number)
        return messages.Reply(number, (None,) * rows, kept_bytes=self._kept_bytes())

    def _failed(self, number: int, rows: int, error: Exception) -> messages.Reply:
        logger.exception("the engine failed on a batch of %d", rows)
        return messages.Reply(number, (), f"{type(error).__name__}: {error}")

    def _kept_bytes(self) -> dict[str, int]:
        return self._elastic.kept_bytes() if self._elastic else {}

    def _reply(self, batch: messages.Batch, inbox: Inbox, tell_nearly_done: Callable[[], None]) -> messages.Reply:
        dropped = inbox.withdrawn(batch.number)
        now = time.monotonic()
        rows = [
            row
            for row, one in enumerate(batch.requests)
            if row not in dropped and (one.deadline is None or one.deadline > now)
        ]
        answers: list[EngineAnswer | None] = [None] * len(batch.requests)
        try:
            wanted = self._wanted(inbox, batch.number, rows, tell_nearly_done)
            found = self._answers([batch.requests[row] for row in rows], batch.beam, wanted)
            self._foresight.end(time.monotonic())
            self._is_broken = len(found) != len(rows)
            if self._is_broken:
                raise ModelError(f"the engine gave {len(found)} answers to {len(rows)} requests")
            for row, answer in zip(rows, found, strict=True):
                answers[row] = answer
        except AbandonedError:
            return self._abandoned(batch.number, len(batch.requests))
        except Exception as error:  # the model must not take the process with it, and the service must hear why
            return self._failed(batch.number, len(rows), error)
        return messages.Reply(batch.number, tuple(answers), kept_bytes=self._kept_bytes())

    def _answers(
        self, requests: list[EngineRequest], beam: int | None, wanted: Callable[[], bool]
    ) -> list[EngineAnswer]:
        if not requests:
            return []
        if self._elastic is not None:
            return self._elastic.recommend_within(requests, beam or self._elastic.beam, wanted)
        return self._engine.recommend([replace(one, excluded=one.excluded | self._gone) for one in requests])

    def _wanted(
        self, inbox: Inbox, batch: int, rows: Iterable[int], tell_nearly_done: Callable[[], None]
    ) -> Callable[[], bool]:
        """Whether somebody waits for one of these rows; to be asked between two steps."""
        needed = set(rows)

        def wanted() -> bool:
            if self._foresight.says(time.monotonic()):
                tell_nearly_done()
            return not needed <= inbox.withdrawn(batch)

        return wanted
