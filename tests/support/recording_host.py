# SPDX-License-Identifier: Apache-2.0
"""The host of a source, in memory: it records what the source hands over, and a test can wait for it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedge_agent.types import Reading

from support.waiting import LONGEST_S


@dataclass
class RecordingHost:
    """A `SourceHost` that keeps up with every source and stores in memory."""

    folder: Path
    stop_after: int = 1 << 60  # batches, then `stop` is set
    is_held: bool = False  # a machine could not decide on what comes
    lag: int = 0  # batches that the agent has not taken in, as the source sees it
    stop: threading.Event = field(default_factory=threading.Event)
    batches: list[tuple[Sequence[Reading], int | None]] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)  # receipts, oldest first
    problems: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unsure: frozenset[str] = frozenset()  # of the newest batch
    origins: list[str | None] = field(default_factory=list)  # of the batches
    examples: dict[str, str] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def emit(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        unsure: frozenset[str] = frozenset(),
        origin: str | None = None,
        history: bool = False,
    ) -> None:
        with self.changed:
            self.batches.append((readings, alive_ns))
            self.unsure = unsure
            self.origins.append(origin)
            self.changed.notify_all()
        if len(self.batches) >= self.stop_after:
            self.stop.set()

    def store(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        receipts: Sequence[bytes] = (),
        continued: bool = False,
        origin: str | None = None,
    ) -> None:
        self.stored += receipts
        self.emit(readings, alive_ns, origin=origin)

    def receipts(self) -> list[bytes]:
        return list(self.stored)

    def problem(self, subject: str, text: str | None) -> None:
        with self.changed:
            self.problems.pop(subject, None)
            if text is not None:
                self.problems[subject] = text
            self.changed.notify_all()

    def note(self, subject: str, text: str | None) -> None:
        self.problem(f"note: {subject}", text)

    def about(self, tags: Sequence[str]) -> str:
        return ", ".join(tags)

    def count(self, what: str, by: int = 1, example: str = "") -> None:
        self.counts[what] += by
        if example:
            self.examples[what] = example

    def waiting(self) -> int:
        return self.lag

    def held(self) -> bool:
        return self.is_held

    @property
    def readings(self) -> list[Reading]:
        """All readings, in the order in which they came."""
        return [r for batch, _ in list(self.batches) for r in batch]

    @property
    def alive(self) -> list[int]:
        """The source times until which the source vouched for its values, in the order in which they came."""
        return [time_ns for _, time_ns in list(self.batches) if time_ns is not None]

    def values(self, tag: str) -> list[Any]:
        """All values of one tag."""
        return [r.value for r in self.readings if r.tag == tag]

    def wait(self, done: Callable[[], bool]) -> None:
        """Return when `done()` holds, asked after each batch and problem. Raises AssertionError after a minute."""
        with self.changed:
            assert self.changed.wait_for(done, LONGEST_S), (self.readings[-3:], self.problems)
