"""The engine of other processes, as the service sees it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import Final

from asterism.core.bundle import Bundle
from asterism.core.errors import (
    AsterismError,
    BundleError,
    ConfigError,
    ModelError,
    OverloadedError,
    StoreUnavailableError,
)
from asterism.core.semantic_id import SemanticId
from asterism.serving.engine.status import EngineStatus
from asterism.serving.grpc.conversation import EngineLostError
from asterism.serving.grpc.descriptions import merged
from asterism.serving.grpc.engine_link import EngineLink
from asterism.serving.ports import EngineAnswer, EngineRequest

_RETURN_SECONDS: Final = 20.0  # within which an engine that was killed is looked for, to make it go back
_PAUSE_SECONDS: Final = 0.2

_drawn = random.Random()
logger = logging.getLogger(__name__)


class RemoteEngine:
    """Implements `EngineHandle` over engine processes at addresses; for one event loop.

    A request goes to the process with the fewest calls under way; where that is lost, once more to another one.
    """

    def __init__(self, addresses: Sequence[str], bundle: Bundle | None = None) -> None:
        """`bundle` is what they serve, to go back to from a swap that fails; raises `ConfigError` on a bad address."""
        if not addresses:
            raise ConfigError("no engine is named; give its address, like unix:/folder/engine.sock")
        self._changed = asyncio.Event()
        self._links = [EngineLink(one, self._on_change) for one in addresses]
        self._bundle = bundle

    def start(self) -> None:
        """See `EngineHandle.start`."""
        for one in self._links:
            one.start()

    async def stop(self) -> None:
        """See `EngineHandle.stop`; the processes go on."""
        await asyncio.gather(*(one.stop() for one in self._links))

    @property
    def bundle_version(self) -> str:
        """Of the bundle that answers, as far as it is known here."""
        return next((one.status.bundle_version for one in self._links if one.status.ready), "")

    @property
    def status(self) -> EngineStatus:
        """See `EngineHandle.status`; an engine that serves another bundle is an error, of which all is answered."""
        status = merged([one.status for one in self._links])
        return status if status.error is not None else status._replace(error=self._difference())

    async def wait_ready(self) -> None:
        """See `EngineHandle.wait_ready`; waits on, as an engine that refused may be started again."""
        while not any(one.status.ready for one in self._links):
            self._changed.clear()
            await self._changed.wait()

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        """See `EngineClient.recommend`."""
        first = self._idlest()
        try:
            return await first.ask(request)
        except EngineLostError:
            if request.deadline is not None and request.deadline <= time.monotonic():
                raise
            return await self._idlest(but=first).ask(request)

    def semantic_id(self, item_id: str) -> SemanticId | None:
        """See `EngineClient.semantic_id`; what a lost process told still holds."""
        for one in self._links:
            found = one.semantic_ids.get(item_id)
            if found is not None:
                return found
        return None

    async def forget(self, digests: Sequence[str]) -> None:
        """See `EngineHandle.forget`; a process that cannot be told is named in the log."""
        await asyncio.gather(*(self._told_to_forget(one, digests) for one in self._links))

    async def _told_to_forget(self, one: EngineLink, digests: Sequence[str]) -> None:
        try:
            await one.forget(digests)
        except AsterismError as error:
            logger.warning(
                "the engine at %s was not told whom to forget, so it keeps what it holds of them until it has no room "
                "or is started again: %s",
                one.address,
                error,
            )

    async def swap(self, bundle: Bundle) -> None:
        """See `EngineHandle.swap`; one process after the other, each of which must see the bundle's folder.

        All or none: where one is away nothing is begun, and where one fails it and those before it go back, also one
        that is started again, but not one that served another bundle than this gateway. Where the call is cancelled
        nobody goes back: it counts as done once all serve the bundle, though some still finish what they had, and
        raises `OverloadedError` where only some do.
        """
        away = [one.address for one in self._links if not one.status.ready]
        if away:
            raise ModelError(f"the engine at {', '.join(away)} is not ready, and all must swap together; nothing was")
        begun: list[tuple[EngineLink, str]] = []
        try:
            for one in self._links:
                begun.append((one, one.told_version))  # one whose answer is lost may have swapped
                await one.swap(str(bundle.path.resolve()), bundle.version)
        except asyncio.CancelledError:
            switched, others = self._parted_by(bundle)
            if switched and others:
                raise OverloadedError(_left_apart(bundle, switched, others)) from None
            if others:
                raise
        except Exception as error:
            if isinstance(error, BundleError | ModelError) and one.told_version != bundle.version:
                begun.pop()  # it refused, and serves what it did, or what another gateway deployed meanwhile
            await self._undo(bundle, begun)
            raise
        self._bundle = bundle

    def _parted_by(self, bundle: Bundle) -> tuple[list[str], list[str]]:
        """The addresses where a bundle is served, and where another one is."""
        switched = [one.address for one in self._links if one.told_version == bundle.version]
        return switched, [one.address for one in self._links if one.address not in switched]

    async def _undo(self, bundle: Bundle, begun: Sequence[tuple[EngineLink, str]]) -> None:
        """Take engines back from a swap that failed; the log says which still serve its bundle where that is cancelled.

        Whoever asked for the swap hears then why it failed.
        """
        try:
            for one, before in begun:
                await self._take_back(one, before)
        except asyncio.CancelledError:
            switched, others = self._parted_by(bundle)
            if switched:
                logger.warning("a swap that failed was not undone: %s", _left_apart(bundle, switched, others))

    async def _take_back(self, one: EngineLink, before: str) -> None:
        """Have an engine serve what it did before a swap that failed, where that is this gateway's bundle."""
        if self._bundle is not None and before == self._bundle.version:
            await self._go_back(one, self._bundle)
        elif one.told_version not in (before, "" if self._bundle is None else self._bundle.version):
            logger.warning(
                "the engine at %s served bundle %s before a swap that failed, which this gateway does not serve, and "
                "is left with %s; deploy what it shall serve",
                one.address,
                before,
                one.told_version,
            )

    async def _go_back(self, one: EngineLink, bundle: Bundle) -> None:
        end = time.monotonic() + _RETURN_SECONDS
        while True:
            try:
                return await one.swap(str(bundle.path.resolve()), bundle.version)
            except AsterismError as error:
                if not isinstance(error, StoreUnavailableError) or time.monotonic() > end:
                    logger.error(
                        "the engine at %s could not be made to serve %s again: %s", one.address, bundle.path, error
                    )
                    return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _difference(self) -> str | None:
        mine = self._bundle
        for one in self._links:
            version = one.status.bundle_version
            if mine is not None and one.status.ready and version != mine.version:
                return (
                    f"the engine at {one.address} serves bundle {version}, and this gateway {mine.version}; unless a "
                    "deploy is under way, deploy one of them, or start the gateway again with what the engine serves"
                )
        return None

    def _idlest(self, but: EngineLink | None = None) -> EngineLink:
        if len(self._links) == 1 and but is None and self._links[0].status.ready:
            return self._links[0]
        ready = [one for one in self._links if one.status.ready and one is not but]
        if not ready:
            raise ModelError(f"the engine is not ready: {self.status.error or 'it is loading'}")
        least = min(one.in_flight for one in ready)
        return _drawn.choice([one for one in ready if one.in_flight == least])

    def _on_change(self) -> None:
        self._changed.set()


def _left_apart(bundle: Bundle, switched: Sequence[str], others: Sequence[str]) -> str:
    but = f" and {', '.join(others)} did not" if others else ""
    return (
        f"the service was stopped when {', '.join(switched)} served {bundle.path} already{but}; deploy either bundle "
        "once it is back"
    )
