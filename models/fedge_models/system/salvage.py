# SPDX-License-Identifier: Apache-2.0
"""Copy the rows that can still be read from one database to another with the same tables.

Promises: a damaged page costs the rows on it, not those before and after it; a row that does not fit is left out.
Leaves to the caller what to do with the counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

BATCH = 200  # rows in one statement


def copy(
    source: sqlite3.Connection, target: sqlite3.Connection, new_ids: bool = False, only: Collection[str] | None = None
) -> dict[str, int]:
    """Copy what can be read; how many rows of each table came. The caller holds a transaction of the target.

    new_ids: a row whose id the file chose gets another one, after those that are there; a row with a key of its own
    replaces an older one. Otherwise ids stay, and a row that is there already is not replaced. only: these tables.
    """
    wanted = [table for table in tables(target) if only is None or table in only]
    return {table: _table(source, target, table, new_ids) for table in wanted}


def tables(database: sqlite3.Connection) -> list[str]:
    """Names of a database's own tables."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    return [name for (name,) in database.execute(sql)]


def columns(database: sqlite3.Connection, table: str) -> dict[str, bool]:
    """A table's columns, and whether each is the id that the file chooses."""
    found = database.execute(f"PRAGMA table_info({table})").fetchall()
    keys = [row[1] for row in found if row[5]]
    return {row[1]: bool(row[5]) and len(keys) == 1 and row[2].upper() == "INTEGER" for row in found}


def _table(source: sqlite3.Connection, target: sqlite3.Connection, table: str, new_ids: bool) -> int:
    known = columns(target, table)
    with suppress(sqlite3.Error):
        known = {name: is_id for name, is_id in known.items() if name in columns(source, table)}
    if new_ids:
        known = {name: is_id for name, is_id in known.items() if not is_id}
    if not known:
        return 0
    names, marks = ", ".join(known), ", ".join("?" * len(known))
    verb = "REPLACE" if new_ids else "IGNORE"
    before = target.total_changes
    for row in _rows(source, table, names):
        with suppress(sqlite3.IntegrityError, sqlite3.InterfaceError):  # a byte of it changed its type
            target.execute(f"INSERT OR {verb} INTO {table} ({names}) VALUES ({marks})", row)  # noqa: S608
    return target.total_changes - before


def _rows(source: sqlite3.Connection, table: str, names: str) -> Iterator[tuple[Any, ...]]:
    """The rows from the first on, up to a page that cannot be read; then from the last on, back to such a page."""
    try:
        yield from source.execute(f"SELECT {names} FROM {table}")  # noqa: S608
        return
    except sqlite3.Error:
        pass
    with suppress(sqlite3.Error):  # a table without rowids has no other end
        yield from source.execute(f"SELECT {names} FROM {table} ORDER BY rowid DESC")  # noqa: S608
