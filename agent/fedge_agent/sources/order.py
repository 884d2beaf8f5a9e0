# SPDX-License-Identifier: Apache-2.0
"""The readings of a batch in the order of their times, and in pieces: a long stretch of the past must not hold up the
readings of now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..types import Reading

PIECE = 128  # readings that the main thread takes in at once, of a source that has no more to say of their time


def in_time_order(readings: Sequence[Reading]) -> Sequence[Reading]:
    """Readings by time, each tag's in the order in which they came.

    A historian sends the whole stretch of one tag and then that of the next. Where the time of a tag goes back, a clock
    was set or a reading is late: what comes then is not mixed with what came before.
    """
    if all(a.time_ns <= b.time_ns for a, b in pairwise(readings)):
        return readings
    ordered: list[Reading] = []
    run: list[Reading] = []
    newest: dict[str, int] = {}
    for reading in readings:
        if reading.time_ns < newest.get(reading.tag, reading.time_ns):
            ordered += sorted(run, key=_time)
            run, newest = [], {}
        newest[reading.tag] = reading.time_ns
        run.append(reading)
    return ordered + sorted(run, key=_time)


def pieces(readings: Sequence[Reading]) -> Iterator[Sequence[Reading]]:
    """The readings in pieces that end between two times; [] is one piece."""
    start = 0
    while start == 0 or start < len(readings):
        end = start + PIECE
        while 0 < end < len(readings) and readings[end].time_ns == readings[end - 1].time_ns:
            end += 1
        yield readings[start:end]
        start = end


def _time(reading: Reading) -> int:
    return reading.time_ns
