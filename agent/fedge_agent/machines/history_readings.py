# SPDX-License-Identifier: Apache-2.0
"""Readings that a source kept and sends afterwards, until they are in the order of their times. Pure.

Each tag may come in a message of its own, the newest message first, a message twice, and readings of now in between. So
they are gathered until no more came for a moment, and then given out by time. Memory is bounded: what is too much is
given out early, and what comes behind that is late.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from ..types import Reading

QUIET_S = 2.0  # so long after the last of them they are complete
PATIENCE_S = 10.0  # no longer are they gathered
MOST = 20_000  # gathered; a waveform counts as many
PER_VALUES = 16  # values of a waveform weigh as much as a reading

Group = tuple[int, str, Sequence[Reading]]  # time, source, its readings of that time


class HistoryReadings:
    """The readings of one asset; `now` is monotonic s."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, str, int, Reading]] = []  # time, source, tag, order of arrival
        self._order = count()
        self._weight = 0
        self._first = self._last = 0.0  # when the oldest and the newest that are gathered came

    def __len__(self) -> int:
        return len(self._heap)

    def take(self, source: str, readings: Sequence[Reading], now: float) -> None:
        """Gather readings."""
        if not readings:
            return
        self._first, self._last = self._first if self._heap else now, now
        for reading in readings:
            heapq.heappush(self._heap, (reading.time_ns, source, reading.tag, next(self._order), reading))
            self._weight += _weight(reading)

    def is_due(self, now: float) -> bool:
        """Whether to give some out."""
        waited = now - self._last >= QUIET_S or now - self._first >= PATIENCE_S
        return bool(self._heap) and (waited or self._weight > MOST)

    def is_quiet(self, now: float) -> bool:
        """Whether all of them came, and were given out."""
        return not self._heap and now - self._last >= QUIET_S

    def groups(self, most: int) -> Iterator[Group]:
        """Give out about `most` readings, oldest first; of two of one tag and time, the one that came last."""
        while self._heap and most > 0:
            time_ns, source = self._heap[0][:2]
            found: dict[str, Reading] = {}
            while self._heap and self._heap[0][:2] == (time_ns, source):
                reading = heapq.heappop(self._heap)[-1]
                self._weight -= _weight(reading)
                found[reading.tag] = reading
                most -= 1
            yield time_ns, source, list(found.values())


def _weight(reading: Reading) -> int:
    return 1 + reading.value.size // PER_VALUES if isinstance(reading.value, np.ndarray) else 1
