"""When a batch that is under way will have ended, as told by its steps."""

from __future__ import annotations

from typing import Final

_SOON_SECONDS: Final = 1e-3  # in which the service, unless it is very busy, has another batch sent
_STEP: Final = 0.1  # of the way from the old mean to the newest batch
_MOST_STEPS: Final = 64  # that are told apart
_LEAST_SECONDS: Final = 1e-6  # that count as taken: nothing follows from less


class Foresight:
    """Says once in each batch that it ends soon.

    How much longer batches go on after their n-th step, as a share of what they had taken until then, is averaged over
    batches, and so is how far off that mean is: the share differs little between few rows and many.
    """

    def __init__(self) -> None:
        self._left: list[float] = []  # by step: mean of the time after it over the time before it
        self._off: list[float] = []  # by step: mean deviation of that
        self._taken: list[float] = []  # seconds until each step of this batch
        self._began = 0.0
        self._was_said = False

    def begin(self, now: float) -> None:
        """A batch begins."""
        self._taken.clear()
        self._began, self._was_said = now, False

    def says(self, now: float) -> bool:
        """A step was done: whether the batch will end soon, where that was not said of it before."""
        step, taken = len(self._taken), max(now - self._began, _LEAST_SECONDS)
        if step == _MOST_STEPS:
            return False
        self._taken.append(taken)
        if self._was_said or step >= len(self._left):
            return False
        self._was_said = taken * (self._left[step] + self._off[step]) <= _SOON_SECONDS
        return self._was_said

    def end(self, now: float) -> None:
        """The batch was answered."""
        whole = now - self._began
        for step, taken in enumerate(self._taken):
            found = (whole - taken) / taken
            if step == len(self._left):
                self._left.append(found)
                self._off.append(0.0)
            self._off[step] += _STEP * (abs(found - self._left[step]) - self._off[step])
            self._left[step] += _STEP * (found - self._left[step])
