# SPDX-License-Identifier: Apache-2.0
"""What people found of each alarm of an asset: a fault, or a false alarm. Read from labels, and from what they decided.

The word that counts is the label that covers the moment at which the event was opened (by hand, of an inspection, or
the closing code of its order), as for samples: the highest origin, of one origin the last. So a label that is replaced
by another is undone. Without one, `fedge-agent event ack` (a fault) or `accept` (the new normal) counts. Not all events
of one label count: one label says one thing.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from ..durable import event_record
from .label_values import RANKS
from .withholding import FAULT

MOST_EVENTS, MOST_LABELS = 500, 5000  # of an asset, the newest
_WORD = "asset = ? AND part = '' AND origin != 'plc'"  # labels that say something of an alarm


class Closing(NamedTuple):
    """What was found of an alarm."""

    key: str
    opened_ns: int
    fault: bool  # else it was a false alarm
    ratio: float  # its worst score over the limit that was learnt by that time, however that was moved


class _Word(NamedTuple):
    """A label of the asset."""

    rank: int
    number: int
    start_ns: int
    end_ns: int
    value: float | str


class _Alarm(NamedTuple):
    """An alarm as it is stored."""

    key: str
    opened_ns: int
    worst: float | None
    learnt: float | None  # the limit that was learnt
    decided: str  # what somebody said of it


def mark(db: sqlite3.Connection) -> tuple[float, ...]:
    """What changes whenever the alarms may have changed (a new one, a higher score), or what people decided on them."""
    newest = db.execute("SELECT max(rowid), total(worst) FROM events WHERE kind = 'alert'").fetchone()
    decided = db.execute("SELECT count(*), coalesce(sum(verdict = ?), 0) FROM withheld WHERE verdict != ''", (FAULT,))
    return tuple(n or 0 for n in (*newest, *decided.fetchone()))


def mark_of(db: sqlite3.Connection, asset: str) -> int:
    """What changes whenever the asset has a new label that may be a word on an alarm."""
    return int(db.execute(f"SELECT max(id) FROM labels WHERE {_WORD}", (asset,)).fetchone()[0] or 0)  # noqa: S608


def alarms(db: sqlite3.Connection) -> dict[str, list[_Alarm]]:
    """The newest alarms of each asset, oldest first."""
    sql = """SELECT asset, key, opened_ns, worst, threshold, body, coalesce((SELECT verdict FROM withheld w
        WHERE w.key = e.key AND verdict != '' ORDER BY rowid DESC LIMIT 1), '') FROM events e
        WHERE kind = 'alert' ORDER BY opened_ns"""
    found: dict[str, deque[tuple[Any, ...]]] = {}
    for asset, *event in db.execute(sql):
        found.setdefault(asset, deque(maxlen=MOST_EVENTS)).append(tuple(event))
    return {asset: [_alarm(*event) for event in events] for asset, events in found.items()}


def _alarm(key: str, opened_ns: int, worst: float | None, threshold: float | None, body: bytes, decided: str) -> _Alarm:
    """An alarm of its row; one of an earlier version says nothing but its threshold."""
    learnt = 0.0
    with suppress(msgspec.MsgspecError):
        learnt = event_record.decode(body).decision.learnt
    return _Alarm(key, opened_ns, worst, learnt or threshold, decided)


def of_asset(
    db: sqlite3.Connection, asset: str, events: Sequence[_Alarm], is_fault: Callable[[float | str], bool | None]
) -> list[Closing]:
    """The closings of an asset's alarms; is_fault: what a label's value says, None where it is not known."""
    words = _words(db, asset, events[0].opened_ns, events[-1].opened_ns) if events else []
    found, used = list[Closing](), set[int]()
    for key, opened_ns, worst, learnt, decided in events:
        word = max((w for w in words if w.start_ns <= opened_ns <= w.end_ns), default=None)
        said = None if word is None else is_fault(word.value)
        if said is None and decided:
            word, said = None, decided == FAULT
        spent = word is not None and word.number in used
        if said is None or spent or not worst or not learnt or learnt <= 0:
            continue
        if word is not None:
            used.add(word.number)
        found.append(Closing(key, opened_ns, said, worst / learnt))
    return found


def _words(db: sqlite3.Connection, asset: str, first_ns: int, last_ns: int) -> list[_Word]:
    """The newest labels of an asset that may cover an alarm from `first_ns` to `last_ns`."""
    sql = f"""SELECT origin, id, start_ns, end_ns, value FROM labels
        WHERE {_WORD} AND end_ns >= ? AND start_ns <= ? ORDER BY id DESC LIMIT ?"""  # noqa: S608
    rows = db.execute(sql, (asset, first_ns, last_ns, MOST_LABELS))
    return [_Word(RANKS[origin], *row) for origin, *row in rows if origin in RANKS]
