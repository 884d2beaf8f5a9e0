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
    begin_ns, made = readings[0].time_ns, []
    for i in range(TIMES):
        passed = 1 + round(i * LATE * every_s * 1e9)
        made.append(Batch("", [r._replace(time_ns=begin_ns + passed) for r in readings], begin_ns + passed, passed))
    return made


def published(readings: Sequence[Reading], every_s: float, begin_ns: int) -> list[Batch]:
    """The readings once, and then only that nothing has changed."""
    first = [r._replace(time_ns=begin_ns) for r in readings]
    made = polled(first, every_s)
    return [batch if not i else batch._replace(readings=[]) for i, batch in enumerate(made)]
