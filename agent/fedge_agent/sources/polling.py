# SPDX-License-Identifier: Apache-2.0
"""What a source would deliver that is asked, or publishes, at a configured pace. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import Batch, Reading

TIMES = 1000  # answers
LATE = 1.0005  # each comes a little later than it should


def polled(readings: Sequence[Reading], every_s: float) -> list[Batch]:
    """The same readings again and again, each time as of then."""
    if not readings:
        return []
    begin_ns = readings[0].time_ns
    return [_batch([r._replace(time_ns=begin_ns + p) for r in readings], begin_ns, p) for p in _passed(every_s)]


def published(readings: Sequence[Reading], every_s: float, begin_ns: int) -> list[Batch]:
    """The readings once, and then only that nothing has changed."""
    if not readings:
        return []
    first = [r._replace(time_ns=begin_ns + 1) for r in readings]
    return [_batch(first if p == 1 else [], begin_ns, p) for p in _passed(every_s)]


def _passed(every_s: float) -> list[int]:
    """How long after the beginning each comes, ns."""
    return [1 + round(i * LATE * every_s * 1e9) for i in range(TIMES)]


def _batch(readings: Sequence[Reading], begin_ns: int, passed_ns: int) -> Batch:
    return Batch("", readings, begin_ns + passed_ns, passed_ns)
