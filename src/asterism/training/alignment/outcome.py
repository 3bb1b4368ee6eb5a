"""What alignment reports while it runs, and what it came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from asterism.training.alignment.lessons import Figures

LOG_FILE = "alignment.jsonl"
INTERRUPTED = "it was interrupted"


class AlignmentReport(NamedTuple):
    """One line of the log: means over the steps since the line before it, then the validation."""

    step: int
    loss: float
    reward: float
    signal: float
    kl: float
    entropy: float
    validation: float
    seconds: float

    def said(self, measure: str, mark: str) -> str:
        """The line for a terminal."""
        return (
            f"step {self.step}  loss {self.loss:.4f}  reward {self.reward:.4f}  groups with signal {self.signal:.0%}  "
            f"KL {self.kl:.4f}  entropy {self.entropy:.2f}  validation {measure} {self.validation:.4f}{mark}"
        )


@dataclass(frozen=True, slots=True)
class AlignmentResult:
    """What alignment came to."""

    steps: int
    best_step: int  # 0 where the start was not beaten
    measure: str  # what was validated
    start_validation: float
    best_validation: float  # as high as a validation found it, whether or not the gain is sure
    p_value: float  # paired bootstrap on the validation cases; 1 where the start is the best
    improved: bool
    seconds: float
    stopped: str  # why it ended, in words

    @property
    def interrupted(self) -> bool:
        """Whether there would have been more to do."""
        return self.stopped == INTERRUPTED


class Log:
    """The lines of a run; alignments that several processes share are written by the main one."""

    def __init__(self, folder: Path, *, written: bool) -> None:
        self._file = folder / LOG_FILE
        self._written = written

    def keep_until(self, step: int) -> None:
        """Forget lines of steps that will be taken again."""
        if self._written and self._file.is_file():
            lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            self._file.write_text("".join(kept), encoding="utf-8")

    def clear(self) -> None:
        """Forget an earlier run."""
        if self._written:
            self._file.unlink(missing_ok=True)

    def add(
        self, step: int, losses: Sequence[tuple[float, Figures]], validation: float, seconds: float
    ) -> AlignmentReport:
        """Write the means since the last line."""
        count = len(losses)
        figures = Figures(*(sum(one[place] for _, one in losses) / count for place in range(len(Figures._fields))))
        loss = sum(one for one, _ in losses) / count
        report = AlignmentReport(step, loss, *figures, validation=validation, seconds=seconds)
        if self._written:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(report._asdict()) + "\n")
        return report
