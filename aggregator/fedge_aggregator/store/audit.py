# SPDX-License-Identifier: Apache-2.0
"""The append-only audit log: joins, updates, refusals with their reasons, rounds, releases and what operators did."""

from __future__ import annotations

import getpass
import os
import sqlite3
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from .database import Database

MAX_DETAIL = 1000

Kind = Literal[
    "invite", "join", "renew", "revoke", "model", "asked", "update", "refusal", "waits", "release", "trust", "pin",
    "unpin", "damaged", "statistics",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)


class AuditRow(NamedTuple):
    """One entry of the log."""

    id: int
    time: float  # Unix time, s
    what: Kind
    federation: str | None
    node: str | None
    release: int | None
    detail: str  # for people


def record(
    db: sqlite3.Connection,
    now: float,
    what: Kind,
    detail: str,
    federation: str | None = None,
    node: str | None = None,
    release: int | None = None,
) -> None:
    """Add an entry, inside the transaction of the change that it describes."""
    sql = "INSERT INTO audit (time, what, federation, node, release, detail) VALUES (?, ?, ?, ?, ?, ?)"
    db.execute(sql, (now, what, federation, node, release, detail[:MAX_DETAIL]))


def operator() -> str:
    """The user who gives a command, and the one before `sudo`; for the log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    before = os.environ.get("SUDO_USER")
    return f"{before} as {user}" if before else user


class Audit:
    """Read the log, and add entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, now: float, what: Kind, detail: str, federation: str | None = None, node: str | None = None) -> None:
        """Add an entry in a transaction of its own."""
        with self._database.transaction() as db:
            record(db, now, what, detail, federation, node)

    def read(
        self, since: float = 0.0, federation: str | None = None, what: str | None = None, limit: int = -1
    ) -> Sequence[AuditRow]:
        """The newest `limit` entries from `since` (Unix time, s) on, oldest first."""
        sql = """SELECT * FROM (SELECT id, time, what, federation, node, release, detail FROM audit
                 WHERE time >= ? AND (? IS NULL OR federation = ?) AND (? IS NULL OR what = ?)
                 ORDER BY id DESC LIMIT ?) ORDER BY id"""
        return [AuditRow(*r) for r in self._database.all(sql, since, federation, federation, what, what, limit)]
