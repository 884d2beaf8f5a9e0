# SPDX-License-Identifier: Apache-2.0
"""The windows of a history: a stretch of the past that a source delivers afterwards, on a grid of its own. Pure.

It is delivered to an assembler as it would have come then, each time in a batch of its own. Between its readings a tag
is unchanged, since such a source sends changes. A tag without a reading at the beginning has the value that is known
of it, if that is older. What the live windows know is never changed by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from ..types import Batch, Reading, Window
from ..windows.assembler import Assembler
from ..windows.channel import known
from .history_readings import Group

STEP_NS = 30_000_000_000  # how often an unchanged value is heard of; less than a reading may be ahead
ORIGIN = "history"  # of the windows, for the keys of their events
BRIDGE_NS = 600_000_000_000  # two stretches lie between readings further apart: what was between them came live


class HistoryWindows:
    """make: an assembler of the asset's model; live: the one of the readings of now, only to look at."""

    def __init__(self, make: Callable[[], Assembler], live: Assembler, hold_s: float) -> None:
        self._make, self._live = make, live
        self._bridge = max(BRIDGE_NS, round(hold_s * 1e9))
        self._assembler: Assembler | None = None
        self._first = self._last = 0  # times of the stretch at hand
        self._counted: Counter[str] = Counter()  # of the stretches before it

    def push(self, group: Group) -> Iterator[Window]:
        """The windows that a group of readings completes."""
        time_ns, source, readings = group
        if self._assembler is not None and time_ns - self._last > self._bridge:
            yield from self.finish()
        if self._assembler is None:
            self._assembler = self._make()
            self._first = self._last = time_ns
            readings = [*self._known(source, {r.tag for r in readings}), *readings]
        for between in range(self._last + STEP_NS, time_ns, STEP_NS):
            yield from self._hear(source, [], between)
        yield from self._hear(source, list(readings), time_ns)
        self._last = max(self._last, time_ns)

    def finish(self) -> list[Window]:
        """The windows that are left when a stretch is over."""
        if self._assembler is None:
            return []
        windows = self._assembler.finish()
        self._counted.update(vars(self._assembler.counters))
        self._assembler = None
        return [w._replace(origin=ORIGIN) for w in windows]

    def counters(self) -> Counter[str]:
        """What became of the readings."""
        return self._counted + Counter(vars(self._assembler.counters) if self._assembler is not None else {})

    def _hear(self, source: str, readings: list[Reading], time_ns: int) -> Iterator[Window]:
        assert self._assembler is not None
        batch = Batch(source, readings, time_ns, 1 + max(0, time_ns - self._first))  # the pace at which it came then
        for window in self._assembler.push(batch):
            yield window._replace(origin=ORIGIN)

    def _known(self, source: str, but_not: set[str]) -> Iterator[Reading]:
        """What is known of the source's other tags since before the stretch."""
        for tag in self._live.tags(source):
            state = self._live.state(source, tag)
            if tag not in but_not and state is not None and state.since_ns <= self._first and known(state.value):
                yield Reading(tag, self._first, state.value)
