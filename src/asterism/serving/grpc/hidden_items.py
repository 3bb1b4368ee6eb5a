"""What the engine leaves out of its answers: the catalogue is looked for in the background, however long it is away."""

from __future__ import annotations

import logging
import threading
from typing import Final

from asterism.core.errors import AsterismError
from asterism.stores.catalogue import Catalogue
from asterism.stores.opening import open_warm

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0

logger = logging.getLogger(__name__)


class HiddenItems:
    """None until the catalogue was reached; a gateway leaves the same items out of whatever it is given."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._catalogue: Catalogue | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._open, name="hidden-items", daemon=True)

    def start(self) -> None:
        """Begin to look for the catalogue."""
        self._thread.start()

    def now(self) -> frozenset[str]:
        """The ids that must not be recommended, as far as they are known."""
        return self._catalogue.unavailable() if self._catalogue is not None else frozenset()

    def close(self) -> None:
        """Let go of the catalogue."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._catalogue is not None:
            self._catalogue.close()

    def _open(self) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            try:
                self._catalogue = open_warm(self._url, self._timeout_seconds).catalogue
                return
            except AsterismError as error:
                logger.warning("what is hidden is not known to the engine yet: %s", error)
            self._closing.wait(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
