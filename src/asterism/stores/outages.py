"""What is down is told when it goes down and when it is back, not once a request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from asterism.core.errors import AsterismError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Outage:
    """Whether one part can be used just now."""

    def __init__(self, what: str, instead: str) -> None:
        """`what` is down, say the log's lines, and `instead` is what happens meanwhile."""
        self._what = what
        self._instead = instead
        self._is_on = False

    def spared(self, action: Callable[[], T]) -> T | None:
        """What an action gives, or None where it raises one of our errors."""
        try:
            result = action()
        except AsterismError as error:
            self.begins(error)
            return None
        self.ends()
        return result

    def begins(self, error: Exception) -> None:
        """It failed."""
        if not self._is_on:
            logger.warning("%s: %s; %s until this ends", self._what, error, self._instead)
        self._is_on = True

    def ends(self) -> None:
        """It worked."""
        if self._is_on:
            logger.warning("%s: back", self._what)
            self._is_on = False
