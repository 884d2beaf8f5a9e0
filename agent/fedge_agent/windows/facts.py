# SPDX-License-Identifier: Apache-2.0
"""What became of the readings of one channel: plain counts and times, from which an asset's condition is judged.

Whoever takes the readings in counts here (`assembler`, `snapshots`); `machines.condition` reads. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from ..types import Quality, Reading

SHOWN = 24  # characters of an example
STEPS = 9  # long ones in a row of which the usual one is found
RECENT = 32  # readings of which it is known whether they lag
MANY = 24  # of them that lag are no accident


@dataclass
class Unused:
    """Readings in a row that could not be used."""

    readings: int = 0
    not_numbers: int = 0
    outside: int = 0
    late: int = 0
    doubted: int = 0  # their times do not fit those before them
    behind: int = 0  # the other channels are so far ahead that nothing waits for them any more


@dataclass
class ChannelFacts:
    """One channel. Times named `_ns` are source time, those without are monotonic seconds of this process."""

    name: str  # the key in ``[asset.X] channels``
    source: str
    tag: str
    expects: str = "numbers"  # what its values are
    readings: int = 0
    bad: int = 0  # readings of bad quality
    not_numbers: int = 0  # readings of usable quality whose value is something else
    example: str = ""  # the last of those values
    outside: int = 0  # values outside of the channel's `range`; they count as bad, too
    outside_example: str = ""  # the last of those
    late: int = 0  # readings that are not newer than what was used before
    implausible: int = 0  # readings whose time fits none of those around it
    implausible_ns: int = 0  # the last of those times
    implausible_by_ns: int = 0  # how far that one was ahead of the others
    behind_ns: int = 0  # how far the last was behind the other channels
    lagging: int = 0  # a bit for each recent reading: it was used, but as of now
    doubted_ns: int = 0  # the last time that did not fit
    slow: list[int] = field(default_factory=list)  # the last steps between two readings, if each value ended meanwhile
    unused: Unused = field(default_factory=Unused)  # since the last reading that was used
    bad_since_ns: int | None = None  # the quality is bad since then; None: it is not
    newest_ns: int = 0  # of the last reading
    heard: float | None = None  # the last reading
    alive: float = -math.inf  # the last sign that the value is unchanged
    used: float | None = None  # the last reading with a value

    def take(self, reading: Reading, usable: bool, now: float) -> None:
        """Count a reading; usable: whether its value is what the channel expects. now: monotonic seconds."""
        self.readings += 1
        self.heard, self.newest_ns = now, reading.time_ns
        if reading.quality is Quality.BAD:
            self.bad += 1
            self.unused.readings += 1
            self.bad_since_ns = reading.time_ns if self.bad_since_ns is None else self.bad_since_ns
            return
        self.bad_since_ns = None
        if usable:
            self.used = now
            if self.unused.readings:
                self.unused = Unused()
            return
        self.not_numbers += 1
        self.unused.readings += 1
        self.unused.not_numbers += 1
        self.example = example(reading.value)

    def take_late(self, now: float) -> None:
        """Count a reading that comes too late to be used."""
        self.readings += 1
        self.late += 1
        self.unused.readings += 1
        self.unused.late += 1
        self.heard = now

    def take_behind(self, reading: Reading, behind_ns: int, now: float) -> None:
        """Count a reading that the windows do not wait for any more."""
        self.readings += 1
        self.late += 1
        self.unused.readings += 1
        self.unused.behind += 1
        self.heard, self.newest_ns, self.behind_ns = now, reading.time_ns, behind_ns

    def note_lag(self, lags: bool, behind_ns: int = 0) -> None:
        """Note whether a reading was so far behind the other channels that it is used as of now."""
        self.lagging = (self.lagging << 1 | lags) & (1 << RECENT) - 1
        self.behind_ns = behind_ns if lags else self.behind_ns

    @property
    def lags(self) -> int:
        """How many of the recent readings lagged, if that is no accident; else 0."""
        count = self.lagging.bit_count()
        return count if count >= MANY else 0

    def note_doubt(self, reading: Reading, now: float) -> None:
        """Note a reading that is not used, at least for now: its time does not fit those before it."""
        self.unused.readings += 1
        self.unused.doubted += 1
        self.heard, self.doubted_ns = now, reading.time_ns

    def note_implausible(self, time_ns: int, others_ns: int) -> None:
        """Count a reading whose time fits none of those around it."""
        self.implausible += 1
        self.implausible_ns, self.implausible_by_ns = time_ns, time_ns - others_ns

    @property
    def implausible_times(self) -> tuple[int, int, int]:
        """How many times fit none of those around them, the last one, and how far it was ahead of those, ns."""
        return self.implausible, self.implausible_ns, self.implausible_by_ns

    def note_outside(self, value: Any) -> None:
        """Note a value outside of the channel's range, before it is taken as a bad one."""
        self.outside += 1
        self.unused.outside += 1
        self.outside_example = example(value)

    def note_step(self, step_ns: int, counts_ns: float) -> None:
        """Note the step between two readings, of which each counts for so long."""
        if step_ns <= counts_ns:
            self.slow.clear()
            return
        self.slow.append(step_ns)
        del self.slow[:-STEPS]

    @property
    def step_s(self) -> float:
        """How far apart its readings usually are, s, if that is longer than a value counts; 0: it is not."""
        steps = self.slow[:]  # another thread may ask
        return median(steps) / 1e9 if len(steps) > 1 else 0.0

    @property
    def seen(self) -> float | None:
        """The last reading, or the last sign that it holds; None: there was no reading."""
        return None if self.heard is None else max(self.heard, self.alive)

    @property
    def example_words(self) -> str:
        """What the values should be, and the last that was not."""
        return f"{self.expects}, e.g. {self.example}"

    @property
    def label(self) -> str:
        """The channel for people: its name, and its tag where that is another."""
        return self.name if self.name == self.tag else f"{self.name} ({self.tag})"


def example(value: Any) -> str:
    """A value from outside on one short line, without control characters."""
    if isinstance(value, np.ndarray):
        return f"an array of {' × '.join(map(str, value.shape))}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…{text[0]}"
