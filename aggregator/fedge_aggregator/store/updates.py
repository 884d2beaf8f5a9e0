# SPDX-License-Identifier: Apache-2.0
"""Updates of open rounds, as the signed bytes that came: an update is one row, so a `202` needs one commit.

A row is deleted with the release that contains the update. The updates of a revoked node are not listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fedge_models.errors import ReplayError

from .audit import record
from .database import Database

_OPEN = """FROM updates JOIN members USING (federation, node) JOIN nodes ON name = node
           WHERE federation = ? AND revoked IS NULL"""


class UpdateRow(NamedTuple):
    """An accepted update of an open round."""

    node: str
    base: int  # release that it improves on
    sequence: int
    accepted: float  # Unix time, s


class Updates:
    """The open updates of all federations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_repeat(self, federation: str, node: str, sequence: int, digest: bytes) -> bool:
        """Whether this is the node's last update once more; digest: SHA-256 of its body.

        Raises ReplayError for a sequence number that was used before.
        """
        sql = "SELECT sequence, digest FROM sequences WHERE federation = ? AND node = ?"
        last, known = next(iter(self._database.all(sql, federation, node)), (-1, b""))
        if known == digest:
            return True
        if sequence <= last:
            raise ReplayError(f"sequence {sequence} of node {node} is not above its last, {last}: a replay", last)
        return False

    def add(self, federation: str, row: UpdateRow, body: bytes, digest: bytes, detail: str) -> None:
        """Store an update and its node's sequence number; detail: for the audit log."""
        node, base, sequence, now = row
        with self._database.transaction() as db:
            db.execute("INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?)", (federation, node, base, sequence, now, body))
            db.execute("INSERT OR REPLACE INTO sequences VALUES (?, ?, ?, ?)", (federation, node, sequence, digest))
            record(db, now, "update", detail, federation, node, base)

    def listed(self, federation: str) -> list[UpdateRow]:
        """All open updates by the names of their nodes, so that averaging again gives the same bits."""
        sql = f"SELECT node, base, sequence, accepted {_OPEN} ORDER BY node"  # a constant
        return [UpdateRow(*row) for row in self._database.all(sql, federation)]

    def arrivals(self, federation: str, node: str | None = None) -> dict[str, float]:
        """Nodes with an update in the open round, and the times of acceptance; node: only this one."""
        sql = f"SELECT node, accepted {_OPEN} AND (? IS NULL OR node = ?) ORDER BY accepted"
        return dict(self._database.all(sql, federation, node, node))

    def body(self, federation: str, node: str) -> bytes:
        """The signed bytes of a node's open update."""
        sql = "SELECT body FROM updates WHERE federation = ? AND node = ?"
        return bytes(self._database.all(sql, federation, node)[0][0])

    def discard(self, federation: str, node: str, why: str, now: float) -> None:
        """Delete an update that the disk has damaged, with an entry in the log."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM updates WHERE federation = ? AND node = ?", (federation, node))
            record(db, now, "damaged", why, federation, node)

    def asked(self, federation: str) -> dict[str, float]:
        """Nodes that are asked in the open round, and since when."""
        return dict(self._database.all("SELECT node, since FROM asked WHERE federation = ?", federation))

    def ask(self, federation: str, nodes: Sequence[str], now: float, release: int) -> None:
        """Record that more nodes are asked."""
        with self._database.transaction() as db:
            rows = [(federation, node, now) for node in nodes]
            db.executemany("INSERT OR IGNORE INTO asked VALUES (?, ?, ?)", rows)
            record(db, now, "asked", ", ".join(nodes), federation, None, release)

    def redate(self, federation: str, now: float) -> None:
        """Give times in the future the time `now`: the clock was set back."""
        with self._database.transaction() as db:
            for table, column in (("updates", "accepted"), ("asked", "since")):
                sql = f"UPDATE {table} SET {column} = ? WHERE federation = ? AND {column} > ?"  # noqa: S608
                db.execute(sql, (now, federation, now))
