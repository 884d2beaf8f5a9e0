# SPDX-License-Identifier: Apache-2.0
"""What people found of each alarm of an asset: a fault, or a false alarm. Read from labels, and from what they decided.

The word that counts is the label that covers the moment at which the event was opened (by hand, of an inspection, or
the closing code of its order), as for samples: the highest origin, of one origin the last. So a label that is replaced
by another is undone. Without one, `fedge-agent event ack` (a fault) or `accept` (the new normal) counts. Not all events
of one label count: one label says one thing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from .label_values import RANKS
from .withholding import FAULT

MOST_EVENTS, MOST_LABELS = 500, 5000  # of an asset, the newest


class Closing(NamedTuple):
    """What was found of an alarm."""

    key: str
    opened_ns: int
    fault: bool  # else it was a false alarm
    ratio: float  # its worst score over the limit of that time


class _Word(NamedTuple):
    """A label of the asset."""

    rank: int
    number: int
    start_ns: int
    end_ns: int
    value: float | str


def mark(db: sqlite3.Connection) -> tuple[int, ...]:
    """What changes whenever closings may have changed."""
    newest = db.execute("SELECT (SELECT max(id) FROM labels), (SELECT max(rowid) FROM events)").fetchone()
    decided = db.execute("SELECT count(*), coalesce(sum(verdict = ?), 0) FROM withheld WHERE verdict != ''", (FAULT,))
    return tuple(int(n or 0) for n in (*newest, *decided.fetchone()))


def of_asset(db: sqlite3.Connection, asset: str, is_fault: Callable[[float | str], bool | None]) -> list[Closing]:
    """The asset's closings, oldest first; is_fault: what a label's value says, None where it is not known."""
    sql = """SELECT key, opened_ns, worst, threshold, coalesce((SELECT verdict FROM withheld w WHERE w.key = e.key
        AND verdict != '' ORDER BY rowid DESC LIMIT 1), '') FROM events e
        WHERE asset = ? AND kind = 'alert' ORDER BY opened_ns DESC LIMIT ?"""
    events = db.execute(sql, (asset, MOST_EVENTS)).fetchall()
    words = _words(db, asset) if events else []
    found, used = list[Closing](), set[int]()
    for key, opened_ns, worst, threshold, decided in reversed(events):
        word = max((w for w in words if w.start_ns <= opened_ns <= w.end_ns), default=None)
        said = None if word is None else is_fault(word.value)
        if said is None and decided:
            word, said = None, decided == FAULT
        if said is None or (word is not None and word.number in used) or not worst or not threshold or threshold <= 0:
            continue
        if word is not None:
            used.add(word.number)
        found.append(Closing(key, opened_ns, said, worst / threshold))
    return found


def _words(db: sqlite3.Connection, asset: str) -> list[_Word]:
    sql = """SELECT origin, id, start_ns, end_ns, value FROM labels
        WHERE asset = ? AND origin != 'plc' AND part = '' ORDER BY id DESC LIMIT ?"""
    return [_Word(RANKS[origin], *row) for origin, *row in db.execute(sql, (asset, MOST_LABELS)) if origin in RANKS]
