# SPDX-License-Identifier: Apache-2.0
"""The newest statistics of each site, as the signed bytes that came, and the newest that were published over sites."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from fedge_models.errors import ReplayError

from .audit import record
from .database import Database

_OPEN = """FROM site_statistics JOIN members USING (federation, node) JOIN nodes ON name = node
           WHERE federation = ? AND revoked IS NULL"""


class StatisticsRow(NamedTuple):
    """A site's newest statistics."""

    node: str
    key: bytes  # Ed25519 public key of the node
    received: float  # Unix time, s
    body: bytes


class Published(NamedTuple):
    """What gateways may fetch."""

    number: int  # 0: nothing yet
    created: float  # Unix time, s
    body: bytes


class Statistics:
    """The statistics of all federations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, federation: str, node: str, sequence: int, body: bytes, now: float) -> bool:
        """Store a site's statistics in the place of its last ones; False for the same bytes once more.

        Raises ReplayError for a sequence number that was used before.
        """
        sql = "SELECT sequence, digest FROM site_statistics WHERE federation = ? AND node = ?"
        digest = hashlib.sha256(body).digest()
        with self._database.transaction() as db:
            last, known = next(iter(self._database.all(sql, federation, node)), (-1, b""))
            if known == digest:
                return False
            if sequence <= last:
                raise ReplayError(
                    f"statistics {sequence} of node {node} are not above its last, {last}: a replay", last
                )
            values = (federation, node, sequence, digest, now, 0, body)  # 0: see the schema
            db.execute("INSERT OR REPLACE INTO site_statistics VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return True

    def rows(self, federation: str) -> list[StatisticsRow]:
        """The newest statistics of each member that is not revoked, by name."""
        sql = f"SELECT node, key, received, body {_OPEN} ORDER BY node"  # a constant
        return [StatisticsRow(n, k, r, bytes(b)) for n, k, r, b in self._database.all(sql, federation)]

    def published(self, federation: str) -> Published:
        """What was published last."""
        sql = "SELECT number, created, body FROM published_statistics WHERE federation = ?"
        return Published(*next(iter(self._database.all(sql, federation)), (0, 0.0, b"")))

    def basis(self, federation: str) -> dict[str, bytes]:
        """What each site's part in the published statistics was, as digests; sites that have left since are in it."""
        sql = "SELECT node, digests FROM statistics_bases WHERE federation = ?"
        return {node: bytes(row) for node, row in self._database.all(sql, federation)}

    def put_basis(self, federation: str, basis: Mapping[str, bytes]) -> None:
        """Store what the published statistics are made of, in the place of what was stored."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM statistics_bases WHERE federation = ?", (federation,))
            rows = [(federation, node, row) for node, row in basis.items()]
            db.executemany("INSERT INTO statistics_bases VALUES (?, ?, ?)", rows)

    def publish(self, federation: str, made: Published, sites: int, basis: Mapping[str, bytes]) -> None:
        """Store what is published from now on, over so many sites, and what it is made of."""
        with self._database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO published_statistics VALUES (?, ?, ?, ?)", (federation, *made))
            self.put_basis(federation, basis)
            record(db, made.created, "statistics", f"statistics {made.number} over {sites} sites", federation)
