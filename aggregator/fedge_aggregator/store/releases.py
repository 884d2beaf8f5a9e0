# SPDX-License-Identifier: Apache-2.0
"""Releases in the database: all of them as listed, the newest ones with their weights; and whether one is pinned.

Promises that versions rise by one, that publishing is one transaction with the end of the round that led to it, and
that no process publishes a round while the federation is pinned.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from fedge_models.errors import StorageError
from fedge_models.messages.quantize import Floats

from .audit import record
from .database import Database

Kind = Literal["first", "round", "renewal", "rollback"]
_ROW = "version, kind, hash, created, rule, figures, details"


@dataclass(frozen=True)
class ReleaseRow:
    """A release as listed."""

    version: int
    kind: Kind
    hash: bytes
    created: float  # Unix time, s
    rule: str
    figures: dict[str, float]  # also in the signed header
    details: dict[str, Any] = field(default_factory=dict)  # not published: who took part and how, the worst site


class Bodies(NamedTuple):
    """The stored parts of a release: what gateways fetch, and what the next release starts from."""

    steps: bytes  # (T,) float32, the grid of updates against it
    full: bytes  # signed message with all weights
    difference: bytes | None  # signed message with the change; only the newest release has it
    residual: bytes  # (P,) float32; only the newest release has it, others have no bytes


class Retention(NamedTuple):
    """How many releases before the newest stay usable."""

    weights: int  # as targets of a rollback
    bases: int  # as bases of updates


class Pin(NamedTuple):
    """An operator's order that rounds publish no release."""

    since: float  # Unix time, s
    operator: str
    reason: str


class Base(NamedTuple):
    """What admission needs of a release that updates may be against."""

    hash: bytes
    steps: Floats  # (T,)


class Releases:
    """The releases of all federations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listed(self, federation: str) -> list[ReleaseRow]:
        """All releases, oldest first."""
        sql = f"SELECT {_ROW} FROM releases WHERE federation = ? ORDER BY version"  # noqa: S608  # a constant
        return [_row(*row) for row in self._database.all(sql, federation)]

    def version(self, federation: str) -> int:
        """The newest version; 0 while the federation has no model."""
        sql = "SELECT coalesce(max(version), 0) FROM releases WHERE federation = ?"
        return int(self._database.all(sql, federation)[0][0])

    def with_weights(self, federation: str) -> set[int]:
        """Versions whose weights are stored."""
        sql = "SELECT version FROM releases WHERE federation = ? AND full IS NOT NULL"
        return {row[0] for row in self._database.all(sql, federation)}

    def find(self, federation: str, version: int) -> tuple[ReleaseRow, Bodies | None] | None:
        """One release, with its bodies while they are stored; None if it does not exist."""
        sql = f"""SELECT {_ROW}, steps, full, difference, coalesce(residual, x'') FROM releases
                  LEFT JOIN newest USING (federation, version) WHERE federation = ? AND version = ?"""  # noqa: S608
        rows = self._database.all(sql, federation, version)
        if not rows:
            return None
        bodies = Bodies(*rows[0][7:])
        return _row(*rows[0][:7]), bodies if bodies.full is not None else None

    def base(self, federation: str, version: int) -> Base | None:
        """Hash and grid of a release; None once its updates are not admitted any more."""
        sql = "SELECT hash, steps FROM releases WHERE federation = ? AND version = ? AND steps IS NOT NULL"
        rows = self._database.all(sql, federation, version)
        return Base(rows[0][0], np.frombuffer(rows[0][1], "<f4").astype(np.float32)) if rows else None

    def floor(self, federation: str) -> int:
        """The release that the last rollback published; 1 if there was none."""
        sql = "SELECT coalesce(max(version), 1) FROM releases WHERE federation = ? AND kind = 'rollback'"
        return int(self._database.all(sql, federation)[0][0])

    def publish(
        self, federation: str, release: ReleaseRow, bodies: Bodies, retention: Retention, used: Collection[str] = ()
    ) -> None:
        """Make a release the newest and end the round that led to it, in one transaction.

        used: nodes whose updates are in it; other admitted updates stay for the next round. A renewal has the weights
        and grid of the release before, so open updates are moved to it. A rollback drops them, with an entry in the
        log. Raises StorageError when another process has published, or pinned the federation, in the meantime.
        """
        with self._database.transaction() as db:
            newest = self.version(federation)
            if newest != release.version - 1:
                raise StorageError(f"federation {federation}: release {newest} was published meanwhile; try again")
            if release.kind == "round" and self.pin(federation) is not None:
                raise StorageError(f"federation {federation}: was pinned meanwhile")
            insert_release(db, federation, release, bodies)
            if release.kind == "renewal":
                sql = "UPDATE updates SET base = ? WHERE federation = ? AND base = ?"
                db.execute(sql, (release.version, federation, newest))
            else:
                db.execute("DELETE FROM asked WHERE federation = ?", (federation,))
            if release.kind == "rollback":
                _drop(db, federation, release)
                db.execute("DELETE FROM vectors WHERE federation = ?", (federation,))  # they continue what is given up
            db.executemany("DELETE FROM updates WHERE federation = ? AND node = ?", [(federation, n) for n in used])
            revoked = "SELECT name FROM nodes WHERE revoked IS NOT NULL"
            db.execute(f"DELETE FROM updates WHERE federation = ? AND node IN ({revoked})", (federation,))  # noqa: S608
            _forget(db, federation, release.version, retention)
            detail = f"{release.kind} by {release.rule}: {_summary(release)}"
            record(db, release.created, "release", detail, federation, None, release.version)

    def pin(self, federation: str) -> Pin | None:
        """The pin of a federation, if it is pinned."""
        rows = self._database.all("SELECT since, operator, reason FROM pins WHERE federation = ?", federation)
        return Pin(*rows[0]) if rows else None

    def set_pin(self, federation: str, pin: Pin) -> None:
        """Pin a federation, or replace its pin: its rounds publish nothing from now on."""
        with self._database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)", (federation, *pin))
            detail = f"by {pin.operator}: {pin.reason or 'no reason given'}"
            record(db, pin.since, "pin", detail, federation, None, self.version(federation))

    def clear_pin(self, federation: str, now: float, operator: str) -> bool:
        """Remove the pin; False if there was none."""
        with self._database.transaction() as db:
            if not db.execute("DELETE FROM pins WHERE federation = ?", (federation,)).rowcount:
                return False
            record(db, now, "unpin", f"by {operator}", federation, None, self.version(federation))
        return True


def _forget(db: Any, federation: str, version: int, retention: Retention) -> None:
    """Remove weights and grids of older releases that are not needed any more."""
    for column, back in (("full", retention.weights), ("steps", max(retention.bases, retention.weights))):
        sql = f"UPDATE releases SET {column} = NULL WHERE federation = ? AND version < ? AND {column} IS NOT NULL"  # noqa: S608
        db.execute(sql, (federation, version - back))


def insert_release(db: Any, federation: str, release: ReleaseRow, bodies: Bodies) -> None:
    """Insert a release, inside a transaction."""
    figures, details = (msgspec.json.encode(d).decode() for d in (release.figures, release.details))
    values = (federation, release.version, release.kind, release.hash, release.created, release.rule, figures, details)
    db.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, bodies.steps, bodies.full))
    newest = (federation, release.version, bodies.difference, bodies.residual)
    db.execute("INSERT OR REPLACE INTO newest VALUES (?, ?, ?, ?)", newest)


def _drop(db: Any, federation: str, release: ReleaseRow) -> None:
    """Drop all open updates: they improve on weights that the operator does not want."""
    for node, base in db.execute("SELECT node, base FROM updates WHERE federation = ?", (federation,)).fetchall():
        why = f"update against release {base} is dropped: {release.rule}"
        record(db, release.created, "refusal", why, federation, node, base)
    db.execute("DELETE FROM updates WHERE federation = ?", (federation,))


def _summary(release: ReleaseRow) -> str:
    """A release in a line for the audit log."""
    nodes: Sequence[str] = sorted(release.details.get("nodes", {}))
    return f"hash {release.hash.hex()}" + (f", {len(nodes)} updates: {', '.join(nodes)}" if nodes else "")


def _row(version: int, kind: Kind, digest: bytes, created: float, rule: str, figures: str, details: str) -> ReleaseRow:
    return ReleaseRow(version, kind, digest, created, rule, msgspec.json.decode(figures), msgspec.json.decode(details))
