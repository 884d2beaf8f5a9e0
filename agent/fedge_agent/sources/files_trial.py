# SPDX-License-Identifier: Apache-2.0
"""What a file's first rows would give: in the batches, and at the pace, in which the source delivers them. Pure."""

from __future__ import annotations

from ..types import Batch, Reading
from .order import in_time_order, pieces

Rows = list[tuple[int, list[Reading]]]  # time of each row, ns, and its readings


def followed(rows: Rows) -> list[Batch]:
    """Of a followed file: the rows that are there, one after the other, with their own times."""
    readings = in_time_order([reading for _, readings in rows for reading in readings])
    return [Batch("", piece, None, 1) for piece in pieces(readings)]


def replayed(rows: Rows, speed: float) -> list[Batch]:
    """Of a replay: row by row, `speed` times as fast; between two rows nothing changes."""
    rows = sorted(rows, key=lambda row: row[0])
    first = rows[0][0]
    made = []
    for at, readings in rows:
        passed = 1 + round((at - first) / speed)
        made.append(Batch("", [r._replace(time_ns=first + passed) for r in readings], first + passed, passed))
    return made
