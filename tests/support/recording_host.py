"""A source's host in memory: everything that a source says is kept, and nothing waits unless it is told to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedge_agent.types import Reading


@dataclass
class KeptHost:
    """`stop_after`: so many batches, then `stop` is set. `lag`: batches that the agent has not taken in."""

    folder: Path
    stop_after: int = 1 << 60
    lag: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    batches: list[tuple[Sequence[Reading], int | None]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def emit(self, readings: Sequence[Reading], alive_ns: int | None = None) -> None:
        self.batches.append((readings, alive_ns))
        if len(self.batches) >= self.stop_after:
            self.stop.set()

    def problem(self, subject: str, text: str | None) -> None:
        if text is None:
            self.problems.pop(subject, None)
        else:
            self.problems[subject] = text

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] += by

    def waiting(self) -> int:
        return self.lag

    @property
    def readings(self) -> list[Reading]:
        """All that came, in order."""
        return [r for batch, _ in self.batches for r in batch]
