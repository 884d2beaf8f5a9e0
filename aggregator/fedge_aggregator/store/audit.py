"""The append-only audit log: who joined, what was admitted or refused and why, rounds, releases, operators' actions."""

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
    "unpin", "damaged",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)


class AuditRow(NamedTuple):
    """One entry."""

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
    """Add an entry, inside the transaction of what it tells of."""
    sql = "INSERT INTO audit (time, what, federation, node, release, detail) VALUES (?, ?, ?, ?, ?, ?)"
    db.execute(sql, (now, what, federation, node, release, detail[:MAX_DETAIL]))


def operator() -> str:
    """Who gives a command, for the log: the user, and who it was before `sudo`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    before = os.environ.get("SUDO_USER")
    return f"{before} as {user}" if before else user


class Audit:
    """Reading the log, and entries of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, now: float, what: Kind, detail: str, federation: str | None = None, node: str | None = None) -> None:
        """An entry that tells of nothing else in the database."""
        with self._database.transaction() as db:
            record(db, now, what, detail, federation, node)

    def read(
        self, since: float = 0.0, federation: str | None = None, what: str | None = None, limit: int = -1
    ) -> Sequence[AuditRow]:
        """Entries from `since` (Unix time, s) on in the order they were written; the newest `limit` of them."""
        sql = """SELECT * FROM (SELECT id, time, what, federation, node, release, detail FROM audit
                 WHERE time >= ? AND (? IS NULL OR federation = ?) AND (? IS NULL OR what = ?)
                 ORDER BY id DESC LIMIT ?) ORDER BY id"""
        return [AuditRow(*r) for r in self._database.all(sql, since, federation, federation, what, what, limit)]
