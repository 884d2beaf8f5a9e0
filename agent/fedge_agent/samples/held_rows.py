# SPDX-License-Identifier: Apache-2.0
"""What is held in memory of samples, labels and events while their file cannot be used, and how it comes to the file.

Promises: memory begins with what the file holds, as far as it can be read and there is room: of samples the newest. At
the end, what is new is added to what the file has by then: another process (`fedge-agent event`, `label`) may have
written to it, and what a person decided there stays. A row that the file has is not added twice. Labels are
acknowledged, so none is accepted in memory (`label_book`): those in it are copies.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import Any

from fedge_models.system import database, salvage
from fedge_models.system.stand_in import Holding

from . import label_order, sample_table

PART_OF_MEMORY = 32  # samples may take one part in so many of the machine's memory: 16 MiB of 512
LEAST_BYTES, MOST_BYTES = 8 * 2**20, 32 * 2**20
ROW_BYTES = 300  # of a sample besides its features, with what its indexes take
OTHER_BYTES = 24 * 2**20  # room for labels, events and what they withhold
MOST_LABELS = 20_000  # the newest; a gateway's samples in memory are not older
# Tables that are copied whole.
SMALL = (
    "baselines",
    "scalings",
    "sample_recipes",
    "sample_labels",
    "withheld",
    "shelves",
    "events",
    "event_notes",
    "questions",
)

_COPIED = "CREATE TEMP TABLE copied AS SELECT model, asset, bytes, covered_ns FROM baselines"
# Where no sample was copied, their numbers begin again: those that come count, too.
_ONE_SERIES = "UPDATE sample_recipes SET since = min(since, (SELECT coalesce(max(id), 0) FROM samples))"
_GAINED = """SELECT b.model, b.asset, b.bytes, b.covered_ns, b.covered_ns - coalesce(c.covered_ns, 0) FROM baselines b
    LEFT JOIN temp.copied c ON c.model = b.model AND c.asset = b.asset AND c.bytes = b.bytes"""
_ALL = "SELECT model, asset, bytes, covered_ns, covered_ns FROM baselines"
_COVER = """INSERT INTO baselines VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET
    covered_ns = iif(bytes = excluded.bytes, covered_ns, 0) + ?5, bytes = excluded.bytes"""
_LABEL = "asset, start_ns, end_ns, value, origin, part, noted, matched"
_SAMPLE = "model, asset, time_ns, y, held, origin, label, span_ns, part, x"
_ADD_SAMPLE = f"""INSERT INTO samples ({_SAMPLE}) SELECT :model, :asset, :time_ns, :y, :held, :origin, :label,
    :span_ns, :part, :x WHERE NOT EXISTS (
    SELECT 1 FROM samples WHERE asset = :asset AND time_ns = :time_ns AND model = :model AND x = :x)"""  # noqa: S608
_ADD_NOTE = """INSERT INTO event_notes (key, at, who, action, text) SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (
    SELECT 1 FROM event_notes WHERE (key, at, who, action, text) = (?1, ?2, ?3, ?4, ?5))"""
_EVENT = """key, asset, opened_ns, cleared_ns, severity, worst, threshold, provisional, body, sent, acknowledged, who,
    kind"""
_ADD_EVENT = f"""INSERT INTO events ({_EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO
    UPDATE SET cleared_ns = excluded.cleared_ns, severity = excluded.severity, worst = excluded.worst,
    body = excluded.body, sent = excluded.sent, who = iif(acknowledged IS NULL, excluded.who, who),
    acknowledged = coalesce(acknowledged, excluded.acknowledged)"""  # noqa: S608
_ADD_HOLD = """INSERT INTO withheld VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET key = excluded.key,
    end_ns = excluded.end_ns, verdict = iif(verdict != '', verdict, excluded.verdict)"""
_ADD_SHELF = """INSERT INTO shelves VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (subject) DO UPDATE SET
    until = excluded.until, left_s = excluded.left_s, who = excluded.who, text = excluded.text,
    suppressed = excluded.suppressed, at = excluded.at WHERE excluded.at >= at"""


def budget_bytes() -> int:
    """How much memory samples may take while their file cannot be used."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(MOST_BYTES, max(LEAST_BYTES, memory // PART_OF_MEMORY))


def most_samples(sample_bytes: int, models: int) -> int:
    """How many samples of so many bytes each of the models may have in memory."""
    return max(1, budget_bytes() // max(1, models) // (sample_bytes + ROW_BYTES))


def holding() -> Holding:
    """For the connections of a running agent to the file."""
    return Holding(fill, merge, (budget_bytes() + OTHER_BYTES) // 4096)


def fill(file: sqlite3.Connection, memory: sqlite3.Connection) -> bool:
    """Copy what can be read of the file and fits; whether that is all of it."""
    done = [_copy_small(file, memory, table) for table in SMALL]
    done.append(_copy_newest(file, memory, "labels", MOST_LABELS, OTHER_BYTES // 2))
    done.append(_copy_newest(file, memory, "samples", 1 << 62, budget_bytes() // 2))  # the other half: for new ones
    memory.execute(_ONE_SERIES)
    memory.execute(_COPIED)
    return all(done)


def _copy_small(file: sqlite3.Connection, memory: sqlite3.Connection, table: str) -> bool:
    if table == "questions" and table not in salvage.tables(file):  # of a version that asked none
        return True
    try:
        with database.undone_on_error(memory):
            return salvage.copy(file, memory, only=(table,))[table] == _count(file, table)
    except sqlite3.Error:  # there is no room, or the disk does not read
        return False


def _copy_newest(
    file: sqlite3.Connection, memory: sqlite3.Connection, table: str, most_rows: int, most_bytes: int
) -> bool:
    """Copy the newest rows of a table whose ids rise, up to a page that cannot be read."""
    names = ", ".join(n for n in salvage.columns(memory, table) if n in salvage.columns(file, table))
    marks = ", ".join("?" * len(names.split(", ")))
    taken = 0
    with suppress(sqlite3.Error), database.undone_on_error(memory):
        rows = file.execute(f"SELECT {names} FROM {table} ORDER BY id DESC LIMIT ?", (most_rows,))  # noqa: S608
        with suppress(sqlite3.DatabaseError):  # the disk does not read: what came before that stays
            for row in rows:
                most_bytes -= ROW_BYTES + sum(len(v) for v in row if isinstance(v, (str, bytes)))
                if most_bytes < 0:
                    break
                memory.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)  # noqa: S608
                taken += 1
    with suppress(sqlite3.Error):
        return taken == _count(file, table)
    return False


def _count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def merge(memory: sqlite3.Connection, file: sqlite3.Connection) -> dict[str, int]:
    """Add what memory has and the file has not; how many samples that were. Those of another recipe stay behind."""
    numbers = _merge_labels(memory, file)
    for model, asset, recipe in memory.execute("SELECT model, asset, recipe FROM sample_recipes ORDER BY rowid"):
        sample_table.begin(file, model, asset, recipe)
    for model, names in memory.execute("SELECT model, names FROM sample_labels"):
        label_order.begin(file, model, label_order.decode(names))
    before = file.total_changes
    for row in _dicts(memory, f"SELECT {_SAMPLE} FROM samples WHERE {sample_table.USED} ORDER BY id"):  # noqa: S608
        file.execute(_ADD_SAMPLE, {**row, "label": numbers.get(row["label"], row["label"])})
    samples = file.total_changes - before
    file.executemany(_COVER, _gained(memory))
    file.executemany(_ADD_EVENT, memory.execute(f"SELECT {_EVENT} FROM events ORDER BY rowid"))  # noqa: S608
    file.executemany(_ADD_HOLD, memory.execute("SELECT * FROM withheld ORDER BY rowid"))
    file.executemany(_ADD_NOTE, memory.execute("SELECT key, at, who, action, text FROM event_notes ORDER BY id"))
    file.executemany(_ADD_SHELF, memory.execute("SELECT * FROM shelves"))
    salvage.copy(memory, file, only=("scalings",))
    return {"samples": samples}


def _merge_labels(memory: sqlite3.Connection, file: sqlite3.Connection) -> dict[int, int]:
    """Add copied labels that the file has not: it is another one. Returns the numbers that changed."""
    changed: dict[int, int] = {}
    same = "asset = ? AND start_ns = ? AND end_ns = ? AND value = ? AND origin = ? AND part = ?"
    for number, *label in memory.execute(f"SELECT id, {_LABEL} FROM labels ORDER BY id"):  # noqa: S608
        found = file.execute(f"SELECT max(id) FROM labels WHERE {same}", label[:6]).fetchone()[0]  # noqa: S608
        if found is None:
            marks = ", ".join("?" * len(label))
            found = file.execute(f"INSERT INTO labels ({_LABEL}) VALUES ({marks})", label).lastrowid  # noqa: S608
        if found != number:
            changed[number] = int(found or 0)
    return changed


def _gained(memory: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """(model, asset, bytes, ns, of these since memory began) of the operation that baselines cover."""
    return memory.execute(_GAINED if _has_copied(memory) else _ALL).fetchall()


def _has_copied(memory: sqlite3.Connection) -> bool:
    return memory.execute("SELECT 1 FROM sqlite_temp_master WHERE name = 'copied'").fetchone() is not None


def _dicts(db: sqlite3.Connection, sql: str) -> Any:
    cursor = db.execute(sql)
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, row, strict=True)) for row in cursor)
