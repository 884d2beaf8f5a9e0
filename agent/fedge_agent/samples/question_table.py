# SPDX-License-Identifier: Apache-2.0
"""The table of questions: every statement on it. No threads: the caller holds the lock of its connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from . import question
from .question import ANSWERED, EXPIRED, LABELLED, LOST, OPEN, Question
from .sample_table import USED

MAX_QUESTIONS = 5000  # stored; the oldest that are over go first
LATELY = 1000  # samples of all models, the last that were stored
_FIELDS = ", ".join(Question._fields)
_STORED = ", ".join(name for name in Question._fields if name != "id")


def insert(db: sqlite3.Connection, asked: Question) -> bool:
    """Store a question; whether it is new."""
    marks = ", ".join("?" * (len(Question._fields) - 1))
    made = db.execute(f"INSERT OR IGNORE INTO questions ({_STORED}) VALUES ({marks})", asked[1:])  # noqa: S608
    old = "SELECT id FROM questions WHERE state != ? ORDER BY id DESC LIMIT -1 OFFSET ?"
    db.execute(f"DELETE FROM questions WHERE id IN ({old})", (OPEN, MAX_QUESTIONS))  # noqa: S608
    return made.rowcount > 0


def all_of(db: sqlite3.Connection) -> list[Question]:
    """All questions, oldest first."""
    return [Question(*row) for row in db.execute(f"SELECT {_FIELDS} FROM questions ORDER BY id")]  # noqa: S608


def of_numbers(db: sqlite3.Connection, numbers: Sequence[int]) -> list[Question]:
    """The questions of these numbers that are stored, oldest first."""
    sql = f"SELECT {_FIELDS} FROM questions WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"  # noqa: S608
    return [Question(*row) for row in db.execute(sql, (json.dumps(list(numbers)),))]


def close(db: sqlite3.Connection, number: int, state: str, answer: str = "") -> bool:
    """End an open question; whether it was open."""
    sql = "UPDATE questions SET state = ?, answer = ? WHERE id = ? AND state = ?"
    return db.execute(sql, (state, answer, number, OPEN)).rowcount > 0


def note_sent(db: sqlite3.Connection, sent: Iterable[tuple[str, int]]) -> None:
    """Note by key what the outputs have of each question."""
    db.executemany("UPDATE questions SET sent = max(sent, ?2) WHERE key = ?1", sent)


def outcome(db: sqlite3.Connection, asked: Question, expire_ns: int) -> tuple[str, str]:
    """The state of an open question now, and its answer."""
    label = """SELECT value, origin FROM labels WHERE asset = ? AND part = '' AND end_ns = ? AND start_ns = ?
        AND matched >= 0 ORDER BY id DESC LIMIT 1"""
    if (found := db.execute(label, (asked.asset, asked.end_ns, asked.start_ns)).fetchone()) is not None:
        return ANSWERED, f"{found[0]} ({found[1]})"
    sql = f"SELECT y FROM samples WHERE asset = ? AND time_ns = ? AND model = ? AND {USED}"  # noqa: S608
    sample = db.execute(sql, (asked.asset, asked.end_ns, asked.model)).fetchone()
    if sample is None or sample[0] is not None:
        return (LOST if sample is None else LABELLED), ""
    newest = _newest(db, asked.model)
    late = newest is not None and abs(newest - asked.asked_ns) > expire_ns
    return (EXPIRED if late else OPEN), ""


def _newest(db: sqlite3.Connection, model: str) -> int | None:
    """Source time of the newest of the model's samples that were stored lately, of whichever machine; None: none is."""
    sql = "SELECT max(time_ns) FROM samples WHERE id > (SELECT max(id) FROM samples) - ? AND model = ?"
    found: int | None = db.execute(sql, (LATELY, model)).fetchone()[0]
    return found


def counts(db: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """How many questions were asked, by reason, and how many of them have each state that is over."""
    found: dict[str, dict[str, int]] = {"asked": {}, **{s: {} for s in question.STATES if s != OPEN}}
    for reason, state, count in db.execute("SELECT reason, state, count(*) FROM questions GROUP BY reason, state"):
        found["asked"][reason] = found["asked"].get(reason, 0) + count
        if state in found:
            found[state][reason] = count
    return found
